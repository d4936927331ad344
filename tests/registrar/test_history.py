"""What a forwarded call says of its way (RFC 5806, RFC 7044)."""

from twisted.trial.unittest import SynchronousTestCase

from registrar.directory.entries import ALWAYS, BUSY, NO_ANSWER
from registrar.history import Step, attribute, diverted_before, told
from tests.flows import Headers, a_request

BOB, CAROL, DAVE = (f"sip:{name}@example.com" for name in ("bob", "carol", "dave"))


def history(steps: list[Step], target: str, headers: Headers = ()) -> list[str]:
    """Return the entries of a call that came with these headers."""
    return told(a_request("INVITE", headers=headers), steps, target).values("History-Info")


class HistoryTests(SynchronousTestCase):
    def test_goes_on(self) -> None:
        """What others said stays; ours follows its last entry, whose address failed for the reason that is added."""
        came = (("History-Info", f"<sip:x@example.net>;index=1, <{BOB}>;index=1.2;mp=1"),)
        self.assertEqual(history([Step(BOB, BUSY)], CAROL, came), [
            "<sip:x@example.net>;index=1", f"<{BOB}?Reason=SIP%3Bcause%3D486>;index=1.2;mp=1",
            f"<{CAROL}>;index=1.2.1;mp=1.2"])

    def test_gap(self) -> None:
        """When the last one is not whom the request was for, he is added (RFC 7044 §9.1)."""
        came = (("History-Info", "<sip:x@example.net>;index=1"),)
        self.assertEqual(history([Step(BOB, NO_ANSWER)], CAROL, came), [
            "<sip:x@example.net>;index=1", f"<{BOB}?Reason=SIP%3Bcause%3D408>;index=1.1",
            f"<{CAROL}>;index=1.1.1;mp=1.1"])

    def test_unreadable(self) -> None:
        """What cannot be read is left out."""
        came = (("History-Info", "nonsense <"), ("Diversion", "nonsense"))
        self.assertEqual(history([Step(BOB, ALWAYS)], CAROL, came)[-1], f"<{CAROL}>;index=1.1;mp=1")
        self.assertEqual(diverted_before(a_request("INVITE", headers=came)), (set(), 0))

    def test_first_an_alias(self) -> None:
        """An alias has no reason to tell."""
        steps = [Step("sip:sales@example.com", None), Step(BOB, ALWAYS)]
        self.assertEqual(history(steps, CAROL), [
            "<sip:sales@example.com>;index=1", f"<{BOB}?Reason=SIP%3Bcause%3D302>;index=1.1;mp=1",
            f"<{CAROL}>;index=1.1.1;mp=1.1"])

    def test_privacy(self) -> None:
        """A caller who wants nothing told gets no history, and what says who diverted says that it is private."""
        request = told(a_request("INVITE", headers=(("Privacy", "id; History"),)), [Step(BOB, ALWAYS)], CAROL)
        self.assertEqual(request.values("History-Info"), [])
        self.assertIn(";privacy=full", request.get("Diversion") or "")

    def test_newest_diversion_first(self) -> None:
        """The last one who diverted stands on top, above those that came (RFC 5806 §4)."""
        came = (("Diversion", "<sip:x@example.net>;reason=unknown"),)
        request = told(a_request("INVITE", headers=came), [Step(BOB, ALWAYS), Step(CAROL, BUSY)], DAVE)
        self.assertEqual([value.partition(";")[0] for value in request.values("Diversion")],
                         [f"<{CAROL}>", f"<{BOB}>", "<sip:x@example.net>"])

    def test_the_request_stays(self) -> None:
        """What was received is not touched."""
        request = a_request("INVITE")
        told(request, [Step(BOB, ALWAYS)], CAROL)
        self.assertEqual((request.get("Diversion"), request.get("History-Info")), (None, None))

    def test_before(self) -> None:
        """Those who diverted a call before count, as often as they say, and at least once each."""
        came = (("Diversion", f"<{BOB};user=phone>;counter=2, <sip:x@example.net>;counter=0"),
                ("Diversion", "<tel:+4930123>;counter=nonsense"))
        self.assertEqual(diverted_before(a_request("INVITE", headers=came)), ({BOB, "sip:x@example.net"}, 4))


class AttributeTests(SynchronousTestCase):
    def left(self, *diversions: str) -> list[str]:
        """Return the diversions that are left of bob's."""
        headers = [("Diversion", value) for value in diversions]
        request = a_request("INVITE", headers=(*headers, ("History-Info", f"<{CAROL}>;index=1")))
        attribute(request, BOB)
        self.assertEqual(request.values("History-Info"), [])
        return request.values("Diversion")

    def test_own(self) -> None:
        """What a caller says of himself stays."""
        self.assertEqual(self.left(), [])
        self.assertEqual(self.left(f"<{BOB};user=phone>;reason=user-busy"), [f"<{BOB};user=phone>;reason=user-busy"])

    def test_others(self) -> None:
        """Whom else he names is told nobody; how often the call was diverted is."""
        self.assertEqual(self.left(f"<{CAROL}>;counter=2, <{BOB}>", "<tel:+4930123>", "nonsense <"),
                         [f"<{BOB}>", f"<{BOB}>;reason=unknown;counter=4"])
