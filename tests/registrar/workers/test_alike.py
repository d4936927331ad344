"""What all workers know alike."""

from registrar.workers.alike import Alike
from tests.registrar.workers.test_site import SiteCase

PATH = "/v1/dns"


class AlikeTests(SiteCase):
    def setUp(self) -> None:
        super().setUp()
        Alike(self.supervisor, PATH).mount(self.site.routes)
        self.started()

    def test_first(self) -> None:
        """What the first worker says is answered, with the query passed on."""
        self.answers = {(1, PATH): (200, {"serial": 1}), (2, PATH): (200, {"serial": 1})}
        answered = self.ask("GET", f"{PATH}?address=192.0.2.1")
        self.assertEqual((answered.status, answered.json), (200, {"serial": 1}))
        self.assertEqual(self.asked[0], (1, PATH, {"address": "192.0.2.1"}))

    def test_one_is_away(self) -> None:
        """One worker that answers is enough; without any it is 503."""
        self.children[0].end()
        self.answers = {(2, PATH): (200, {"serial": 2})}
        self.assertEqual(self.ask("GET", PATH).json, {"serial": 2})
        self.children[1].end()
        self.assertEqual(self.ask("GET", PATH).status, 503)

    def test_refused(self) -> None:
        """A refusal is passed on."""
        refused = (400, {"error": "address: an IPv4 or IPv6 address is allowed"})
        self.answers = {(index, PATH): refused for index in (1, 2)}
        self.assertEqual(self.ask("GET", PATH).status, 400)
