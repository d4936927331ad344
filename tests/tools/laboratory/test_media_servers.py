"""What the lab's phones are given: a carrier, and an address of its network."""

from ipaddress import ip_address, ip_network

from twisted.trial.unittest import SynchronousTestCase

from tools.laboratory.filling import LabUser
from tools.laboratory.media_phone import audio_of
from tools.laboratory.media_servers import CARRIERS, subscribers


class SubscribersTests(SynchronousTestCase):
    def test_addresses(self) -> None:
        """Carriers have the same number of phones, each with an address of its own in the carrier's network."""
        found = subscribers([LabUser(f"user{number}", "secret") for number in range(900)])
        self.assertEqual(len({each.host for each in found}), 900)
        for carrier, net in CARRIERS.items():
            hosts = [each.host for each in found if each.carrier == carrier]
            self.assertEqual((len(hosts), [host for host in hosts if ip_address(host) not in ip_network(net)]),
                             (300, []))
            self.assertNotIn(ip_network(net).network_address, [ip_address(host) for host in hosts])


class AudioOfTests(SynchronousTestCase):
    def test_where(self) -> None:
        """SDP says where audio goes; nowhere with port 0 or without audio."""
        sdp = b"v=0\r\nc=IN IP4 127.1.2.3\r\nt=0 0\r\nm=audio %d RTP/AVP 0\r\n"
        self.assertEqual(audio_of(sdp % 4000), ("127.1.2.3", 4000))
        self.assertIsNone(audio_of(sdp % 0))
        self.assertIsNone(audio_of(b"v=0\r\nm=video 4000 RTP/AVP 0\r\n"))
