"""Tests of registrar.claims: whose password credentials are about, and whether they are for us."""

from twisted.trial.unittest import SynchronousTestCase

from registrar.claims import check_uri, claimed, credentials_for, is_long, named, user_of
from rollcall.sip.digest import Credentials
from rollcall.sip.errors import ParseError
from rollcall.sip.message import Request, parse_message

REALM = "example.com"


def a_header(username: str = "alice", realm: str = REALM, nonce: str = "n") -> str:
    """Return credentials as they stand in a request."""
    return (f'Digest username="{username}", realm="{realm}", nonce="{nonce}", uri="sip:example.com", '
            f'response="{"0" * 32}"')


def a_request(method: str, to: str = "<sip:bob@example.com>") -> Request:
    """Return a request from alice."""
    text = (f"{method} sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.4;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n"
            f"From: <sip:al%69ce@example.com>;tag=1\r\nTo: {to}\r\nCall-ID: 1\r\nCSeq: 1 {method}\r\n\r\n")
    request = parse_message(text.encode())
    assert isinstance(request, Request)
    return request


class ClaimsTests(SynchronousTestCase):
    def credentials(self, *headers: str) -> Credentials:
        """Return the credentials for our realm."""
        found = credentials_for(REALM, headers)
        assert found is not None
        return found

    def test_ours(self) -> None:
        """The first credentials for our realm count; those for others, or without a challenge, are left alone."""
        others = a_header("carol", "example.org"), a_header("dave", nonce="")
        self.assertEqual(self.credentials(*others, a_header(), a_header("bob")).username, "alice")
        self.assertIsNone(credentials_for(REALM, others))
        self.assertIsNone(credentials_for(REALM, ()))

    def test_malformed(self) -> None:
        """What is malformed is refused, unless it is for another realm."""
        self.assertRaises(ParseError, credentials_for, REALM, [f'Digest username="a", realm="{REALM}"'])
        self.assertIsNone(credentials_for(REALM, ['Digest username="a", realm="example.org"']))

    def test_names(self) -> None:
        """A name may come with our domain, in any case; with another domain nobody is meant."""
        for username, user, name, in_full in (
            ("alice", "alice", "alice", False), ("alice@EXAMPLE.com", "alice", "alice", True),
            ("alice@example.org", None, "alice@example.org", True),
        ):
            credentials = self.credentials(a_header(username))
            self.assertEqual((user_of(credentials, REALM), named(credentials, REALM), is_long(credentials)),
                             (user, name, in_full))

    def test_claimed(self) -> None:
        """Without credentials a REGISTER is about who is in To, any other request about who it is from."""
        self.assertEqual((claimed(a_request("REGISTER")), claimed(a_request("INVITE"))), ("bob", "alice"))
        for to in ("<sip:example.com>", "<tel:+49301234>"):
            self.assertIsNone(claimed(a_request("REGISTER", to)))

    def test_uri(self) -> None:
        """Credentials are for the resource that the request is for."""
        check_uri("sip:example.com", "sip:example.com:5060")
        self.assertRaises(ParseError, check_uri, "sip:example.org", "sip:example.com")
