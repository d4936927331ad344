"""Somebody who watches registrations by a real socket, and reads documents as RFC 3680 §5.2 says."""

from time import monotonic

from rollcall.sip.headers import parse_name_addr
from rollcall.sip.message import Request, Response
from tests.interop.phone import Phone
from tests.registrar.reginfo import Reginfo, Table


class Watcher:
    """A subscription of the user of a phone to an address-of-record."""

    def __init__(self, phone: Phone, aor: str) -> None:
        """Nothing is asked yet."""
        self.phone = phone
        self._ours = ""
        self._theirs = f"<{aor}>"
        self._target = aor
        self._call_id = f"watch-{id(self)}"
        self._cseq = 0
        self.table = Table()
        self.notified_at = 0.0

    def subscribe(self, expires: int = 60, over: Phone | None = None) -> Response:
        """Subscribe or refresh, over another connection if one is given, and return the final answer."""
        phone = over or self.phone
        asked = self._made(phone, expires)
        phone.send(asked)
        answer = phone.final()
        if answer.status == 401:
            again = self._made(phone, expires)
            again.add("Authorization", phone.credentials(answer.get("WWW-Authenticate") or "", "SUBSCRIBE", again.uri))
            phone.send(again)
            answer = phone.final()
        if answer.status == 200:
            self._theirs = answer.get("To") or ""
            self._target = parse_name_addr(answer.get("Contact") or "").uri
        return answer

    def told(self, seconds: float = 10.0) -> tuple[Request, Reginfo | None]:
        """Wait for a NOTIFY, answer it, and return it with its document."""
        notify = self.phone.request(seconds)
        self.notified_at = monotonic()
        assert notify.method == "NOTIFY", notify.start_line
        self.phone.answer(notify, 200)
        document = Reginfo(notify.body) if notify.body else None
        if document is not None:
            self.table.apply(document)
        return notify, document

    def events(self, seconds: float = 10.0) -> list[tuple[str, str, str]]:
        """Wait for a NOTIFY and return what it tells of each contact."""
        document = self.told(seconds)[1]
        assert document is not None
        return document.events

    def _made(self, phone: Phone, expires: int) -> Request:
        self._cseq += 1
        request = phone.make("SUBSCRIBE", self._target, [
            ("Event", "reg"), ("Contact", f"<{self.phone.contact}>"), ("Expires", str(expires))],
            to=self._theirs, call_id=self._call_id, cseq=self._cseq)
        self._ours = self._ours or request.get("From") or ""
        request.set("From", self._ours)
        return request
