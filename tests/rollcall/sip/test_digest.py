"""Tests of challenges, credentials and responses (RFC 7616, RFC 8760, RFC 3261 §22.4, RFC 2617)."""

import hashlib
import hmac
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rollcall.sip.digest import (
    ALGORITHMS,
    HEX_DIGITS,
    Credentials,
    challenge,
    expected_response,
    ha1,
    names_same_resource,
    parse_credentials,
    verify,
)
from rollcall.sip.errors import ParseError
from rollcall.sip.headers import parse_authorization, quote

# RFC 7616 §3.9.1, unfolded; the SHA-256 response is broken over two lines there.
RFC_NONCE = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
RFC_CREDENTIALS = (
    'Digest username="Mufasa", realm="http-auth@example.org", uri="/dir/index.html", algorithm={algorithm}, '
    f'nonce="{RFC_NONCE}", nc=00000001, cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", qop=auth, '
    'response="{response}", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
)
RFC_RESPONSES = {
    "MD5": "8ca523f5e9506fed4657c9700eebdbec",
    "SHA-256": "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
}

# Computed by hand with openssl dgst for bob of RFC 3261 §22.2, password "zanzibar", INVITE with the body b"v=0\r\n".
BOB = Credentials(
    username="bob",
    realm="biloxi.com",
    nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093",
    uri="sip:alice@biloxi.com",
    response="",
    algorithm="MD5",
    qop="auth",
    nc="00000001",
    cnonce="0a4f113b",
)
BODY = b"v=0\r\n"
RESPONSES: dict[tuple[str, str | None], str] = {
    ("MD5", None): "ee5f27e5c700d3ba0a6cf5be1b7ecddb",
    ("MD5", "auth"): "9bda4c98a75c7feaddd465dbedf41cad",
    ("MD5", "auth-int"): "65cf1ae5eda44b812f18f2307e31553c",
    ("SHA-256", None): "414793a675757f5ac88164b7dd3138befd227b4f8d977f39a23855ce80189f79",
    ("SHA-256", "auth"): "67dff4d3dca6183e3b4b6b4c7f2a73f9b185d0ade2995eec6ff6b327209398bf",
    ("SHA-256", "auth-int"): "00909fbec91c20619cceb85ec65e3bd32232d5a310aa6e3a8254dedb4f13679b",
    ("SHA-512-256", None): "213718fa335da24dabfa392c716c0c93bd07756601ac1044b5d356c41643297e",
    ("SHA-512-256", "auth"): "866c93e61c435f801835bfd8dfbca0f003422418dff64e72051b6c0b87c6da44",
    ("SHA-512-256", "auth-int"): "a7d8c4651798f8b5efdfd1185456b2f5dfc3efcdb848cbba9e7ad2679eb5b0ba",
}

# What real clients sent as alice with the password "secret", answering the nonce "abc_-9".
SENT_BY_CLIENTS = {
    "baresip 1.0.0": (
        'Digest username="alice", realm="127.0.0.1", nonce="abc_-9", uri="sip:127.0.0.1:15070;transport=udp", '
        'response="d2e1f1e4f0038fe6ad4475feb1683c72", cnonce="1bda4842e4b640b7", qop=auth, nc=00000001'
    ),
    "linphonec 5.1.65": (
        'Digest realm="127.0.0.1", nonce="abc_-9", algorithm=SHA-256, username="alice",  uri="sip:127.0.0.1", '
        'response="a4ac3fdafd3c41a0cbf6dc89e269496fda9eceb4365467185ef8a0580f16c48b", cnonce="lH1oMYRMXnLK55-J", '
        "nc=00000001, qop=auth"
    ),
    "sipp 3.6.1": (
        'Digest username="alice",realm="127.0.0.1",cnonce="6b8b4567",nc=00000001,qop=auth,'
        'uri="sip:127.0.0.1:15070",nonce="abc_-9",response="a2d207af67dee9d2b693c1e9fb37d35b",algorithm=MD5'
    ),
    "sipsak 0.9.8": (
        'Digest username="alice", uri="sip:127.0.0.1:1507", algorithm=MD5, realm="127.0.0.1", nonce="abc_-9", '
        'qop=auth, nc=00000001, cnonce="79a95eec", response="94fd782b3509189c763de1cd6bfeb1bd"'
    ),
    "pyVoIP 1.6.8": (
        'Digest username="alice",realm="127.0.0.1",nonce="abc_-9",uri="sip:127.0.0.1;transport=UDP",'
        'response="b0c034dee984df6cc14276b60a31bff2",algorithm=MD5'
    ),
}

MINIMAL = 'Digest username="u", realm="r", nonce="n", uri="sip:r", response="0"'


def credentials(text: str) -> Credentials:
    """Return credentials that must be there."""
    parsed = parse_credentials(text)
    assert parsed is not None
    return parsed


class ResponseTests(SynchronousTestCase):
    def test_rfc_7616_first_example(self) -> None:
        """The responses of RFC 7616 §3.9.1 verify, with both algorithms."""
        for algorithm, response in RFC_RESPONSES.items():
            own = credentials(RFC_CREDENTIALS.format(algorithm=algorithm, response=response))
            secret = ha1(algorithm, "Mufasa", "http-auth@example.org", "Circle of Life")
            self.assertEqual(expected_response(own, "GET", secret), response)
            self.assertTrue(verify(own, "GET", secret))

    def test_rfc_7616_second_example(self) -> None:
        """§3.9.2 prints SHA-512 cut to 256 bits; SHA-512/256 itself gives what its erratum 4897 says."""
        own = Credentials(
            username="J\u00e4s\u00f8n Doe",
            realm="api@example.org",
            nonce="5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK",
            uri="/doe.json",
            response="3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5",
            algorithm="SHA-512-256",
            qop="auth",
            nc="00000001",
            cnonce="NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v",
        )
        secret = ha1("SHA-512-256", own.username, own.realm, "Secret, or not?")
        self.assertTrue(verify(own, "GET", secret))
        printed = "ae66e67d6b427bd3f120414a82e4acff38e8ecd9101d6c861229025f607a79dd"
        self.assertFalse(verify(attrs.evolve(own, response=printed), "GET", secret))

    def test_each_algorithm_and_qop(self) -> None:
        """Every algorithm works with auth, auth-int and without qop."""
        self.assertEqual({algorithm for algorithm, _ in RESPONSES}, set(ALGORITHMS))
        for (algorithm, qop), response in RESPONSES.items():
            own = attrs.evolve(BOB, algorithm=algorithm, qop=qop)
            secret = ha1(algorithm, "bob", "biloxi.com", "zanzibar")
            self.assertEqual(len(response), HEX_DIGITS[algorithm])
            self.assertEqual(expected_response(own, "INVITE", secret, BODY), response, (algorithm, qop))

    def test_empty_body(self) -> None:
        """With auth-int the hash of no body is the hash of the empty string (RFC 8760 §2.6 item 7)."""
        of_nothing = {
            "MD5": "d41d8cd98f00b204e9800998ecf8427e",
            "SHA-256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        }
        hashers = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}
        for algorithm, empty in of_nothing.items():
            ha2 = hashers[algorithm](f"BYE:sip:u:{empty}".encode()).hexdigest()
            text = f"h:{BOB.nonce}:00000001:0a4f113b:auth-int:{ha2}"
            own = attrs.evolve(BOB, algorithm=algorithm, qop="auth-int", uri="sip:u")
            self.assertEqual(expected_response(own, "BYE", "h"), hashers[algorithm](text.encode()).hexdigest())

    def test_body_matters_to_auth_int_only(self) -> None:
        """Another body changes the response of auth-int, and of nothing else."""
        for qop, differs in (("auth-int", True), ("auth", False), (None, False)):
            own = attrs.evolve(BOB, qop=qop)
            self.assertEqual(expected_response(own, "M", "h", b"1") != expected_response(own, "M", "h", b"2"), differs)

    def test_real_clients(self) -> None:
        """What clients of the field send is read and verifies."""
        for client, text in SENT_BY_CLIENTS.items():
            own = credentials(text)
            secret = ha1(own.algorithm, "alice", "127.0.0.1", "secret")
            self.assertTrue(verify(own, "REGISTER", secret), client)
            self.assertFalse(verify(own, "INVITE", secret), client)

    def test_count_is_hashed_as_written(self) -> None:
        """A phone that writes its count shorter, or in capitals, hashes what it writes."""
        for nc in ("1", "0000000A", "0000000a"):
            own = attrs.evolve(BOB, nc=nc)
            own = attrs.evolve(own, response=expected_response(own, "INVITE", "h"))
            self.assertTrue(verify(own, "INVITE", "h"))
            self.assertEqual(own.count, int(nc, 16))

    def test_every_part_matters(self) -> None:
        """A response does not verify for another user's hash, method, or any other value that it covers."""
        own = attrs.evolve(BOB, response=RESPONSES["MD5", "auth"])
        secret = ha1("MD5", "bob", "biloxi.com", "zanzibar")
        self.assertTrue(verify(own, "INVITE", secret))
        self.assertFalse(verify(own, "BYE", secret))
        self.assertFalse(verify(own, "INVITE", ha1("MD5", "bob", "biloxi.com", "Zanzibar")))
        others: list[dict[str, Any]] = [
            {"nonce": "x"}, {"uri": "sip:x"}, {"nc": "00000002"}, {"cnonce": "x"}, {"qop": "auth-int"}, {"qop": None},
            {"response": ""}, {"response": "\udcff"}, {"response": own.response[:-1]},
        ]
        for other in others:
            self.assertFalse(verify(attrs.evolve(own, **other), "INVITE", secret), other)

    def test_compares_in_constant_time(self) -> None:
        """The response is compared by hmac.compare_digest, whole, whatever was received."""
        compared: list[tuple[str, str]] = []

        def compare_digest(ours: str, theirs: str) -> bool:
            compared.append((ours, theirs))
            return False

        self.patch(hmac, "compare_digest", compare_digest)
        own = attrs.evolve(BOB, response="short")
        self.assertFalse(verify(own, "INVITE", ha1("MD5", "bob", "biloxi.com", "zanzibar"), BODY))
        self.assertEqual(compared, [(RESPONSES["MD5", "auth"], "short")])

    def test_bytes_that_are_not_utf_8(self) -> None:
        """A name in another encoding is hashed as the bytes that were received."""
        latin_1 = b"J\xf6rg".decode("utf-8", "surrogateescape")
        self.assertEqual(ha1("MD5", latin_1, "r", "p"), hashlib.md5(b"J\xf6rg:r:p").hexdigest())


class ChallengeTests(SynchronousTestCase):
    def test_form(self) -> None:
        """realm, nonce and qop are quoted; algorithm and stale are not (RFC 7616 §3.3)."""
        self.assertEqual(
            challenge("biloxi.com", "abc", "SHA-256", ("auth", "auth-int"), stale=True, opaque="xyz"),
            'Digest realm="biloxi.com", nonce="abc", algorithm=SHA-256, qop="auth,auth-int", opaque="xyz", stale=true',
        )

    def test_nothing_more_than_needed(self) -> None:
        """stale and opaque appear only when they say something."""
        self.assertEqual(
            challenge("biloxi.com", "abc", "MD5"), 'Digest realm="biloxi.com", nonce="abc", algorithm=MD5, qop="auth"'
        )

    @given(st.text(st.characters(exclude_categories=["Cc", "Cs"])))
    def test_any_realm(self, realm: str) -> None:
        """Whatever the realm holds, it is read back the same."""
        self.assertEqual(parse_authorization(challenge(realm, "n", "MD5")).params["realm"], realm)


class CredentialsTests(SynchronousTestCase):
    def test_all_parameters(self) -> None:
        """Every parameter of RFC 7616's example is read."""
        own = credentials(RFC_CREDENTIALS.format(algorithm="MD5", response="8CA523F5E9506FED4657C9700EEBDBEC"))
        self.assertEqual(
            own,
            Credentials(
                username="Mufasa",
                realm="http-auth@example.org",
                nonce=RFC_NONCE,
                uri="/dir/index.html",
                response=RFC_RESPONSES["MD5"],
                algorithm="MD5",
                qop="auth",
                nc="00000001",
                cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
                opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS",
            ),
        )

    def test_quoted_or_not(self) -> None:
        """Quotes may be missing or too many, spaces and names as one likes: the same is read."""
        usual = credentials(MINIMAL + ', algorithm=SHA-256, qop=auth, nc=00000001, cnonce="c", opaque="o"')
        for text in (
            'Digest username=u, realm=r, nonce=n, uri=sip:r, response=0, algorithm="SHA-256", qop="auth", '
            'nc="00000001", cnonce=c, opaque=o',
            'DIGEST  USERNAME = "u" ,Realm="r",nonce="n",\turi="sip:r",response="0",algorithm=sha-256,qop=AUTH,'
            'nc=00000001,cnonce="c",opaque="o",',
            'digest response="0",opaque="o",cnonce="c",nc=00000001,qop="auth",algorithm=sha-256,uri="sip:r",nonce="n",'
            'realm="r",username="u", charset=UTF-8, userhash=false',
        ):
            self.assertEqual(credentials(text), usual, text)

    def test_escapes(self) -> None:
        """Escaped characters are read as what they stand for, an equals sign and a comma as themselves."""
        text = r'Digest username="a\"b\\c", realm="r", nonce="n", uri="sip:r;a=b,c=d", response="0", cnonce="=="'
        own = credentials(text)
        self.assertEqual((own.username, own.uri), ('a"b\\c', "sip:r;a=b,c=d"))

    def test_without_algorithm(self) -> None:
        """Who names no algorithm means MD5 (RFC 7616 §3.4); an unknown one is reported, not refused here."""
        self.assertEqual(credentials(MINIMAL).algorithm, "MD5")
        self.assertEqual(credentials(MINIMAL + ", algorithm=MD5-sess").algorithm, "MD5-SESS")

    def test_without_qop(self) -> None:
        """Without qop there is neither count nor cnonce, though some phones send them (RFC 2617 §3.2.2)."""
        own = credentials(MINIMAL + ', nc=00000001, cnonce="c"')
        self.assertEqual((own.qop, own.nc, own.cnonce, own.count), (None, "", "", 0))

    def test_before_any_challenge(self) -> None:
        """A first request may only name its user, all else empty (RFC 8760 §2.7)."""
        own = credentials('Digest username="u", realm="r", nonce="", uri="sip:r", response=""')
        self.assertEqual((own.username, own.nonce, own.response), ("u", "", ""))

    def test_other_schemes(self) -> None:
        """What is not Digest is not for us (RFC 3261 §22: Basic MUST NOT be accepted)."""
        self.assertIsNone(parse_credentials("Basic dTpw"))
        self.assertIsNone(parse_credentials('Bearer realm="r"'))

    def test_malformed(self) -> None:
        """What lacks something, says it twice or makes no sense is refused with 400, and the reason names it."""
        for text, reason in (
            ("", "malformed credentials"),
            ("Digest", "credentials without username, realm, nonce, uri, response"),
            (MINIMAL.replace('nonce="n", ', ""), "credentials without nonce"),
            (MINIMAL.replace("username", "user"), "credentials without username"),
            (MINIMAL + ', username="v"', "credentials with a parameter given twice"),
            (MINIMAL + ', realm="r"', "credentials with a parameter given twice"),
            (MINIMAL + ', qop=auth, cnonce="c"', "credentials with qop, but without cnonce or with a malformed nc"),
            (MINIMAL + ", qop=auth, nc=1", "credentials with qop, but without cnonce or with a malformed nc"),
            (
                MINIMAL + ', qop=auth, nc=123456789, cnonce="c"',
                "credentials with qop, but without cnonce or with a malformed nc",
            ),
            (
                MINIMAL + ', qop=auth, nc="-1", cnonce="c"',
                "credentials with qop, but without cnonce or with a malformed nc",
            ),
            (MINIMAL + ', qop=other, nc=1, cnonce="c"', "credentials with an unknown qop"),
            (MINIMAL + ', opaque="', "malformed credentials"),
            (MINIMAL + ", userhash=true", "credentials with a hashed username, which was not offered"),
            (
                MINIMAL.replace('username="u"', "username*=UTF-8''J%C3%A4s%C3%B8n%20Doe"),
                "credentials with username*, which is not understood here: send username in UTF-8",
            ),
            (
                MINIMAL + ", username*=UTF-8''u",
                "credentials with username*, which is not understood here: send username in UTF-8",
            ),
        ):
            error = self.assertRaises(ParseError, parse_credentials, text)
            self.assertEqual((error.reason, error.status), (reason, 400), text)

    @given(st.data())
    def test_short_way_and_long_way_agree(self, data: st.DataObject) -> None:
        """Credentials read the same whether they are written as usual or in a way that takes the whole parser."""
        texts = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=12)
        quoted = {name: data.draw(texts) for name in ("username", "realm", "nonce", "uri", "response", "cnonce")}
        plain = {"algorithm": data.draw(st.sampled_from(ALGORITHMS)), "qop": "auth", "nc": "0000000f"}
        params = [f"{name}={quote(text)}" for name, text in quoted.items()] + [f"{n}={v}" for n, v in plain.items()]
        params = data.draw(st.permutations(params))
        unusual = credentials("Digest " + ", ".join([*params, "charset=UTF-8"]))
        self.assertEqual(credentials("Digest " + ", ".join(params)), unusual)
        self.assertEqual({name: getattr(unusual, name) for name in quoted}, quoted | {
            "response": quoted["response"].lower()
        })

    @given(st.text() | st.text().map(lambda text: "Digest " + text) | st.text().map(lambda text: MINIMAL + "," + text))
    def test_any_text(self, text: str) -> None:
        """Nothing but ParseError is ever raised."""
        try:
            parse_credentials(text)
        except ParseError as error:
            self.assertEqual(error.status, 400)


class ResourceTests(SynchronousTestCase):
    def test_same(self) -> None:
        """One address is one resource, however it is written (RFC 3261 §19.1.4) and whatever its parameters."""
        for uri, requested in (
            ("sip:example.org", "sip:example.org"),
            ("not a URI", "not a URI"),
            ("sip:EXAMPLE.org", "sip:example.org"),
            ("sip:%61lice@example.org", "sip:alice@example.org"),
            ("sip:127.0.0.1;transport=UDP", "sip:127.0.0.1"),
            ("sip:example.org:5060", "sip:example.org"),
            ("sips:example.org", "sip:example.org"),
            ("tel:+1-201-555-0123", "tel:+1-201-555-0123"),
        ):
            self.assertTrue(names_same_resource(uri, requested), uri)

    def test_another(self) -> None:
        """Another user, host or port is another resource, and so is what cannot be read."""
        for uri, requested in (
            ("sip:alice@example.org", "sip:bob@example.org"),
            ("sip:Alice@example.org", "sip:alice@example.org"),
            ("sip:example.org", "sip:alice@example.org"),
            ("sip:example.org", "sip:example.net"),
            ("sip:example.org:5060", "sip:example.org:5070"),
            ("tel:+12015550123", "sip:+12015550123@example.org"),
            ("tel:+12015550123", "tel:+12015550124"),
            ("not a URI", "sip:example.org"),
            ("/dir/index.html", "sip:example.org"),
            ("", "sip:example.org"),
        ):
            self.assertFalse(names_same_resource(uri, requested), uri)
