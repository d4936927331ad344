"""Tests of rollcall.sip.fields: what can be done with a message."""

from twisted.trial.unittest import SynchronousTestCase

from rollcall.sip.errors import ParseError
from rollcall.sip.fields import Request, Response

HEADERS = (
    ("Via", "SIP/2.0/UDP c;branch=z9hG4bKc"),
    ("v", 'SIP/2.0/TCP b;x="1,2" , SIP/2.0/UDP a'),
    ("From", "<sip:a@example.com>;tag=1"),
    ("Route", "<sip:p1;lr>,<sip:p2,x;lr>"),
    ("Route", "<sip:p3;lr>"),
)


def a_request() -> Request:
    return Request.new("OPTIONS", "sip:b@example.com", HEADERS)


class ReadingTests(SynchronousTestCase):
    def test_get(self) -> None:
        """get gives the first field of a name, get_all each, values each value of their lists."""
        request = a_request()
        self.assertEqual(request.get("via"), "SIP/2.0/UDP c;branch=z9hG4bKc")
        self.assertEqual(request.get_all("Route"), ["<sip:p1;lr>,<sip:p2,x;lr>", "<sip:p3;lr>"])
        self.assertEqual(request.values("Route"), ["<sip:p1;lr>", "<sip:p2,x;lr>", "<sip:p3;lr>"])
        self.assertEqual(
            request.values("v"), ["SIP/2.0/UDP c;branch=z9hG4bKc", 'SIP/2.0/TCP b;x="1,2"', "SIP/2.0/UDP a"]
        )
        self.assertEqual((request.get("to"), request.get_all("to"), request.values("to")), (None, [], []))

    def test_first_value(self) -> None:
        """The first value of a list is what stands before its first comma."""
        request = a_request()
        self.assertEqual(request.first_value("route"), "<sip:p1;lr>")
        request.remove_first_value("via")
        self.assertEqual(request.first_value("via"), 'SIP/2.0/TCP b;x="1,2"')
        self.assertIsNone(request.first_value("to"))
        request.set("Via", '", a')
        self.assertRaises(ParseError, request.first_value, "via")


class ChangingTests(SynchronousTestCase):
    def names(self, request: Request) -> list[str]:
        return [name for _, name, _ in request.fields]

    def test_set(self) -> None:
        """A field that is set takes the place of the first of its name, or the last of all."""
        request = a_request()
        request.set("Via", "x")
        self.assertEqual(self.names(request), ["Via", "From", "Route", "Route"])
        request.set("m", "<sip:a>")
        self.assertEqual(self.names(request), ["Via", "From", "Route", "Route", "m"])
        self.assertEqual((request.get("via"), request.get("contact")), ("x", "<sip:a>"))

    def test_set_values(self) -> None:
        """Many values take the place of many; none removes them."""
        request = a_request()
        request.set_values("ROUTE", ["1", "2", "3"])
        self.assertEqual(self.names(request), ["Via", "v", "From", "ROUTE", "ROUTE", "ROUTE"])
        request.set_values("v", iter(["4"]))
        self.assertEqual((request.get_all("via"), request.get_all("route")), (["4"], ["1", "2", "3"]))
        request.set_values("Route", ())
        self.assertEqual(self.names(request), ["v", "From"])

    def test_add(self) -> None:
        """A field is added after the last of its name, else at the end."""
        request = a_request()
        request.add("Via", "last")
        request.add("To", "x")
        self.assertEqual(self.names(request), ["Via", "v", "Via", "From", "Route", "Route", "To"])
        self.assertEqual(request.get_all("via")[-1], "last")

    def test_prepend(self) -> None:
        """A field is put before the first of its name, else at the top."""
        request = a_request()
        request.prepend("Route", "first")
        request.prepend("Record-Route", "rr")
        self.assertEqual(self.names(request), ["Record-Route", "Via", "v", "From", "Route", "Route", "Route"])
        self.assertEqual(request.get("route"), "first")

    def test_remove(self) -> None:
        """Removing takes all of a name, and nothing where there is none."""
        request = a_request()
        request.remove("V")
        request.remove("Unknown")
        self.assertEqual(self.names(request), ["From", "Route", "Route"])

    def test_remove_first_value(self) -> None:
        """Values leave one by one, and a field with its last value."""
        request = a_request()
        seen = []
        for _ in range(3):
            seen.append(request.first_value("via"))
            request.remove_first_value("via")
        self.assertEqual(seen, ["SIP/2.0/UDP c;branch=z9hG4bKc", 'SIP/2.0/TCP b;x="1,2"', "SIP/2.0/UDP a"])
        self.assertEqual(self.names(request), ["From", "Route", "Route"])
        request.remove_first_value("via")
        request.remove_first_value("route")
        self.assertEqual(request.get_all("route"), ["<sip:p2,x;lr>", "<sip:p3;lr>"])


class WritingTests(SynchronousTestCase):
    def test_serialise(self) -> None:
        """A message is written with its fields in order, and Content-Length last."""
        request = Request.new("MESSAGE", "sip:b", [("v", "SIP/2.0/UDP a"), ("Subject", "")], b"h\0")
        self.assertEqual(
            request.serialise(),
            b"MESSAGE sip:b SIP/2.0\r\nv: SIP/2.0/UDP a\r\nSubject: \r\nContent-Length: 2\r\n\r\nh\0",
        )
        self.assertEqual(Response.new(404).serialise(), b"SIP/2.0 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual(Response.new(200, "Fine").serialise()[:14], b"SIP/2.0 200 Fi")
        self.assertEqual(
            [Response.new(status).reason for status in (299, 499, 680)], ["OK", "Bad Request", "Global Failure"]
        )

    def test_no_forged_fields(self) -> None:
        """A line break in anything that is put into a message is not written."""
        for request in (
            Request.new("A", "sip:b", [("X", "a\r\nVia: b")]),
            Request.new("A", "sip:b", [("X", "a\nb")]),
            Request.new("A", "sip:b", [("X", "a\r")]),
            Request.new("A", "sip:b\r\n", []),
            Response.new(200, "a\nb"),
        ):
            self.assertRaises(ValueError, request.serialise)

    def test_names_are_tokens(self) -> None:
        """Nobody can add a field whose name is no token."""
        request = Request.new("A", "sip:b")
        for name in ("", "a b", "a:", "é", "a\r\nb"):
            self.assertRaises(ParseError, request.add, name, "x")
            self.assertRaises(ParseError, Request.new, "A", "sip:b", [(name, "x")])

    def test_copy(self) -> None:
        """A copy is equal and goes its own way."""
        for message in (Request.new("A", "sip:b", HEADERS, b"x"), Response.new(200, headers=HEADERS)):
            twin = message.copy()
            self.assertEqual(twin, message)
            twin.add("X", "y")
            self.assertNotEqual(twin, message)
            self.assertIsNone(message.get("X"))

    def test_equality(self) -> None:
        """Messages are equal when they say the same, whatever the spelling of names."""
        one = Request.new("A", "sip:b", [("Via", "x")])
        self.assertEqual(one, Request.new("A", "sip:b", [("v", "x")]))
        for other in (
            Request.new("B", "sip:b", [("Via", "x")]),
            Request.new("A", "sip:c", [("Via", "x")]),
            Request.new("A", "sip:b", [("Via", "y")]),
            Request.new("A", "sip:b", [("Via", "x")], b"z"),
            Response.new(200, headers=[("Via", "x")]),
            "A sip:b SIP/2.0",
        ):
            self.assertNotEqual(one, other)
        self.assertRaises(TypeError, hash, one)
