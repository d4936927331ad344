"""Tests of what rtpengine is told beside a description."""

from twisted.trial.unittest import SynchronousTestCase

from registrar.media.flags import End, answer, answer_arguments, delete, delete_arguments, offer, offer_arguments
from registrar.media.session import Session, Side

PHONE, BROWSER = End("phone"), End("browser", is_webrtc=True)


class FlagsTests(SynchronousTestCase):
    """Phones get RTP, browsers DTLS-SRTP, and nobody a way around the node."""

    def test_between_phones(self) -> None:
        """What phones speak with each other is theirs: no protocol is asked for."""
        self.assertEqual(offer_arguments("c", PHONE, End(""), "b1"), {
            "call-id": "c", "from-tag": "phone", "via-branch": "b1", "replace": ["session-connection"],
            "ICE": "remove", "rtcp-mux": ["demux"], "supports": ["load limit"]})

    def test_to_a_browser(self) -> None:
        """A browser is offered ICE, DTLS-SRTP and one port, whoever calls it."""
        for offerer in (PHONE, BROWSER):
            arguments = offer_arguments("c", offerer, BROWSER)
            self.assertEqual((arguments["ICE"], arguments["transport-protocol"]), ("force", "UDP/TLS/RTP/SAVPF"))
            self.assertEqual(arguments["rtcp-mux"], ["offer", "require"])

    def test_from_a_browser(self) -> None:
        """A phone is offered plain RTP, and the browser gets its answer as it offered."""
        self.assertEqual(offer_arguments("c", BROWSER, PHONE)["transport-protocol"], "RTP/AVP")
        self.assertEqual(answer_arguments("c", BROWSER, PHONE)["ICE"], "force")
        self.assertEqual(answer_arguments("c", PHONE, BROWSER)["ICE"], "remove")

    def test_delete(self) -> None:
        """A branch is deleted by its name; without one the whole call."""
        self.assertEqual(delete_arguments("c"), {"call-id": "c", "delete-delay": 0})
        self.assertEqual(delete_arguments("c", "phone", "b1"), {
            "call-id": "c", "delete-delay": 0, "from-tag": "phone", "via-branch": "b1"})

    def test_of_a_call(self) -> None:
        """Within a call both tags are known, whoever offers."""
        session = Session(call_id="c", id="1", node="m1", address="m1:22222", caller=Side(tag="phone"),
                          callee=Side(tag="browser", is_webrtc=True))
        self.assertEqual(offer(session, "callee"), offer_arguments("c", BROWSER, PHONE))
        self.assertEqual(answer(session, "callee"), answer_arguments("c", BROWSER, PHONE))
        self.assertEqual(delete(session), delete_arguments("c"))
