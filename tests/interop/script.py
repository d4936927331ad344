"""What one sipp phone says and expects, step by step: a scenario made of the pieces in scenarios/.

sipp has no way to use a part of a scenario in another, so that the parts are joined here. Words in braces are filled in
by us, those in brackets by sipp when it sends.
"""

from collections.abc import Iterable
from pathlib import Path
from xml.sax.saxutils import escape

from rollcall.sip.message import REASONS

PIECES = Path(__file__).with_name("scenarios")
DOMAIN = "sip.example"
ANY = "[^\r]*"
"""In a pattern: the rest of a line, or a part of it. A dot would go on to the next."""
HERE = "<sip:{user}@[local_ip]:[local_port];transport=[transport]>"
TAG = ";tag=[pid].[call_number]"
KEEP_ROUTE = ' rrs="true"'
RETRANSMITTING = ' retrans="500"'
OFFER = "v=0\no=- 1 1 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 6000 RTP/AVP 0\n"
SDP = "Content-Type: application/sdp"
ALWAYS_WITHIN = frozenset({"ACK", "BYE", "INFO", "PRACK", "UPDATE"})
KEPT = ("remote", "vias", "recorded", "caller", "called", "number", "check")
READY = "ready"
OWN_CALL_ID = "register///[call_id]"
"""Another Call-ID that sipp counts as of the same call: it looks behind the slashes only."""


def has(header: str, pattern: str) -> str:
    """Check that one `header` is, as a whole, what the POSIX expression `pattern` describes.

    Not by sipp's own search for headers, which takes the end of Record-Route for Route.
    """
    return says(f"\n{header}: {pattern}\r")


def lacks(header: str) -> str:
    """Check that there is no such header."""
    return _check(f"\n{header}:", 'search_in="msg" check_it_inverse="true"')


def says(pattern: str) -> str:
    """Check that `pattern` is somewhere in the message; "\\n" is the beginning of a line."""
    return _check(pattern, 'search_in="msg" check_it="true"')


def never_says(pattern: str) -> str:
    """Check that `pattern` is nowhere in the message."""
    return _check(pattern, 'search_in="msg" check_it_inverse="true"')


def bound(*contacts: str) -> str:
    """Check that exactly these contacts are reported, each a pattern for one Contact line behind its colon."""
    each = [says(f"\nContact: {contact}\r") for contact in contacts]
    return "".join([*each, never_says("\nContact: .*" * (len(contacts) + 1))])


def about(seconds: int) -> str:
    """Return a pattern for a remaining time of `seconds`, of which a slow machine may have spent some."""
    return f"({'|'.join(str(number) for number in range(max(1, seconds - 12), seconds + 1))})"


def literal(text: str) -> str:
    """Return a pattern for exactly this text."""
    return "".join(f"[{letter}]" if letter in ".*+?()$|{" else letter for letter in text)


class Script:
    """The steps of one phone, each named for what the phone does. `xml` is what sipp plays."""

    def __init__(self, user: str, domain: str = DOMAIN) -> None:
        self.user = user
        self.domain = domain
        self.address = f"sip:{user}@{domain}"
        self._steps: list[str] = []
        self._cseq = 0
        self._branch = 0
        self._invite: dict[str, object] = {}
        self._has_dialog = False
        self._is_within = False
        self._invited_within = False

    # --- requests

    def register(self, *fields: str, **words: object) -> None:
        """Send a REGISTER; `fields` are Contact lines and the like."""
        self.request("REGISTER", f"sip:{self.domain}", *fields, **{"to": self.address, "call_id": OWN_CALL_ID, **words})

    def request(self, method: str, uri: str, *fields: str, **words: object) -> None:
        """Send a request outside of dialogs; `words` replace those of the piece: to, sender, call_id, cseq, hops…"""
        self._branch += 1
        self._cseq = int(str(words.get("cseq", self._cseq + 1)))
        known = {"method": method, "uri": uri, "cseq": self._cseq, "to": uri, "sender": self.address, "hops": 70,
                 "call_id": "[call_id]", "branch": self._branch, "body": "", "options": "",
                 "retransmitting": "" if method == "ACK" else RETRANSMITTING, **words}
        if method == "INVITE":
            routes = _lines(field for field in fields if field.startswith("Route:"))
            self._invite = {**known, "recipient": f" <{known['to']}>", "fields": routes, "options": ""}
        self._add("request", **{**known, "fields": _lines(fields)})

    def invite(self, callee: str, *fields: str, **words: object) -> None:
        """Call a user of our domain, or a URI; a 100 may come."""
        uri = callee if ":" in callee else f"sip:{callee}@{self.domain}"
        self.request("INVITE", uri, f"Contact: {HERE.format(user=self.user)}", *fields, SDP, **{"body": OFFER, **words})
        self.expect(100, optional=True)

    def cancel(self, *fields: str, **words: object) -> None:
        """Give up the call that is being made."""
        self._add("cancel", **{**self._invite, "fields": f"{self._invite['fields']}{_lines(fields)}", **words})

    def within(self, method: str, *fields: str, options: str = "") -> None:
        """Send a request within the dialog, as either side of it."""
        self._branch += 1
        if method != "ACK":
            self._cseq += 1
        retransmitting = "" if method == "ACK" else RETRANSMITTING
        words = {"method": method, "cseq": self._cseq, "sender": self.address, "call_id": "[call_id]",
                 "branch": self._branch, "options": options}
        offer: tuple[str, ...] = ()
        if method == "INVITE":
            self._invite = {**words, "uri": "[next_url]", "recipient": "[$remote]", "fields": "[routes]\n"}
            offer = (SDP,)
        self._add("within", **words, user=self.user, fields=_lines((*fields, *offer)), body=OFFER if offer else "",
                  retransmitting=retransmitting)

    def acknowledge(self, options: str = "") -> None:
        """ACK an accepted call: a request of its own, end to end."""
        self._has_dialog = True
        self.within("ACK", options=options)

    def in_dialog(self) -> None:
        """Know that what comes from now on is within a dialog, which was made without an INVITE."""
        self._has_dialog = True

    # --- answers

    def expect(self, status: int, *checks: str, optional: bool = False, options: str = "") -> None:
        """Wait for this response. A 2xx's Contact and recorded route are kept for the dialog, challenges for later.

        sipp keeps the first route that it is told to keep; KEEP_ROUTE in `options` makes it that of an early dialog.
        """
        kept = KEEP_ROUTE if 200 <= status < 300 else ' auth="true"' if status in (401, 407) else ""
        kept += ' optional="true"' if optional else ""
        self._add("expect", status=status, options=kept + options, checks="".join(checks))

    def refused(self, status: int, *checks: str) -> None:
        """Wait for the refusal of a call and ACK it."""
        self.expect(status, *checks)
        self._add("acknowledge_refusal", **self._invite)

    def receive(self, method: str, *checks: str, optional: bool = False) -> None:
        """Wait for a request."""
        self._is_within = method in ALWAYS_WITHIN or self._has_dialog
        if method == "INVITE":
            self._invited_within = self._is_within
        elif method == "CANCEL":
            self._is_within = self._invited_within
        piece = "receive_invite" if method == "INVITE" else "receive"
        options = ' optional="true"' if optional else ""
        options += KEEP_ROUTE if method == "SUBSCRIBE" and not self._is_within else ""
        self._add(piece, method=method, options=options, checks="".join(checks))

    def answer(self, status: int, *fields: str, to: str = "last") -> None:
        """Answer the last request, or `to` the "INVITE" although another came after it."""
        self._answer(status, fields, to)

    def accept(self, *fields: str, to: str = "last") -> None:
        """Answer a call with 200 until the ACK comes, and wait for that."""
        self._answer(200, (*fields, SDP), to, RETRANSMITTING, OFFER)
        self._has_dialog = True
        self.receive("ACK")

    def refuse(self, status: int, *fields: str, to: str = "last") -> None:
        """Refuse a call until the ACK comes, and wait for that."""
        self._answer(status, fields, to, RETRANSMITTING)
        self.receive("ACK")

    def pause(self, milliseconds: int) -> None:
        """Do nothing; whatever comes meanwhile is unexpected."""
        self._steps.append(f'<pause milliseconds="{milliseconds}"/>\n')

    def ready(self) -> None:
        """Let the test know that this point is reached, by the file READY in sipp's folder."""
        self._steps.append(f'<nop><action><exec command="touch {READY}"/></action></nop>\n')

    # --- whole conversations

    def registered(self, *fields: str) -> None:
        """Register where sipp is, and be ready to be called there."""
        self.register(f"Contact: {HERE.format(user=self.user)}", *fields)
        self.expect(200)
        self.ready()

    def cancelled(self, *checks: str) -> None:
        """As a callee: be told to stop ringing, and agree."""
        self.receive("CANCEL", *checks)
        self.answer(200)
        self.refuse(487, to="INVITE")

    def hang_up(self) -> None:
        """Send BYE, and be answered."""
        self.within("BYE")
        self.expect(200)

    def hung_up(self) -> None:
        """Be sent BYE, and answer it."""
        self.receive("BYE")
        self.answer(200)

    @property
    def xml(self) -> str:
        """The scenario."""
        steps = "".join(self._steps)
        names = ",".join(name for name in KEPT if f'assign_to="{name}"' in steps)
        return (f'<?xml version="1.0" encoding="UTF-8"?>\n<scenario name="{self.user}">\n{steps}'
                f'<Reference variables="{names}"/>\n</scenario>\n')

    def _answer(self, status: int, fields: tuple[str, ...], to: str, retransmitting: str = "",
                body: str = "") -> None:
        # The To of a request within a dialog has our tag already.
        tag = "" if (self._is_within if to == "last" else self._invited_within) else TAG
        self._add("answer" if to == "last" else "answer_invite", status=status, reason=REASONS[status], tag=tag,
                  user=self.user, fields=_lines(fields), body=body, retransmitting=retransmitting)

    def _add(self, piece: str, **words: object) -> None:
        self._steps.append((PIECES / f"{piece}.xml").read_text().format(**words))


def _lines(fields: Iterable[str]) -> str:
    return "".join(f"{field}\n" for field in fields)


def _check(pattern: str, where: str) -> str:
    quoted = escape(pattern, {'"': "&quot;", "\n": "\\n", "\r": "\\r"})
    return f'<ereg regexp="{quoted}" {where} assign_to="check"/>\n'
