"""What the admin site of several workers says about bans."""

import json

from registrar.workers.bans import AllBans
from tests.registrar.workers.test_site import SiteCase


class AllBansTests(SiteCase):
    def setUp(self) -> None:
        super().setUp()
        AllBans(self.supervisor).mount(self.site.routes)
        self.supervisor.start()
        for child in self.children:
            child.ready()

    def test_listed(self) -> None:
        """The bans of all workers are listed together, each with its worker."""
        for index, seconds in ((1, 30), (2, 20)):
            ban = {"kind": "source", "user": None, "source": "192.0.2.7", "seconds_left": seconds, "failures": 100}
            self.answers[index, "/v1/bans"] = 200, {"bans": [ban]}
        found = [(each["worker"], each["seconds_left"]) for each in self.ask("GET", "/v1/bans").json["bans"]]
        self.assertEqual(found, [(2, 20), (1, 30)])

    def test_lifted(self) -> None:
        """A ban is lifted at every worker."""
        for index in (1, 2):
            self.answers[index, "/v1/bans/lift"] = 200, {"lifted": index}
        wish = {"who": "192.0.2.7"}
        self.assertEqual(self.ask("POST", "/v1/bans/lift", wish).json, {"lifted": 3})
        self.assertEqual(self.ask("DELETE", "/v1/bans?who=192.0.2.7").json, {"lifted": 3})
        self.assertEqual([(index, json.loads(content)) for index, _, content in self.posted],
                         [(1, wish), (2, wish)] * 2)

    def test_wrong_wish(self) -> None:
        """What nobody is named by is refused before any worker is asked, and what they refuse is passed on."""
        self.assertEqual([self.ask("POST", "/v1/bans/lift", {}).status, self.ask("DELETE", "/v1/bans").status],
                         [400, 400])
        self.assertEqual(self.asked, [])
        for index in (1, 2):
            self.answers[index, "/v1/bans/lift"] = 400, {"error": "who: an address or a user is allowed"}
        answered = self.ask("POST", "/v1/bans/lift", {"who": "alice"})
        self.assertEqual((answered.status, answered.json["error"]), (400, "who: an address or a user is allowed"))
