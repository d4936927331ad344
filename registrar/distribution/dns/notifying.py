"""Secondaries are told that a zone has changed (RFC 1996), so that they need not wait until they ask."""

from collections.abc import Mapping, Sequence
from secrets import randbits
from typing import Any

from attrs import define
from dns.exception import DNSException
from dns.flags import Flag
from dns.message import Message, from_wire, make_query
from dns.name import Name
from dns.opcode import Opcode
from dns.rdatatype import RdataType
from dns.rrset import RRset
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from rollcall.net.flow import Address
from rollcall.net.listening import family_of

# RFC 1996 §3.6 proposes 60 s and 5 tries. A zone that follows sites is of no use a minute late: the first come quickly.
FIRST_WAIT_SECONDS = 1.0
TRIES = 6


@define(eq=False)
class _News:
    """What one secondary has not heard yet of one zone."""

    message: Message
    tries: int = 0
    timer: IDelayedCall | None = None


class Notifying:
    """Tells every secondary of every new serial until it has answered, or for a while."""

    _log = Logger()

    def __init__(self, reactor: Any, secondaries: Sequence[Address], hosts: Sequence[str]) -> None:
        """`hosts` are our addresses: secondaries heed these. One that this machine lacks now is passed over."""
        self.told = self.unanswered = 0
        self._reactor = reactor
        self._secondaries = tuple(secondaries)
        self._hosts = tuple(dict.fromkeys(hosts))
        self._news: dict[tuple[Address, Name], _News] = {}
        self._serials: dict[Name, int] = {}
        self._ways: dict[str, _Way] = {}

    def tell(self, soas: Mapping[Name, RRset], again: bool = False) -> None:
        """Tell of each zone whose serial is new, or `again` of all. What was not heard is out of date then."""
        for origin, soa in soas.items():
            serial = soa[0].serial
            if self._serials.get(origin) == serial and not again:
                continue
            self._serials[origin] = serial
            for place in self._secondaries:
                self._forget((place, origin))
                self._news[place, origin] = _News(_notification(origin, soa))
                self._try((place, origin))

    def stop(self) -> None:
        """Tell no more."""
        for key in tuple(self._news):
            self._forget(key)
        for way in self._ways.values():
            way.stop()
        self._ways.clear()

    def answered(self, data: bytes, place: Address) -> None:
        """Take what came from a secondary. Any answer to a question of ours says that it has heard (RFC 1996 §4.8)."""
        try:
            message = from_wire(data, ignore_trailing=True, question_only=True)
        except DNSException:
            return
        for key, news in tuple(self._news.items()):
            if news.message.id == message.id and key[0] == place and news.message.is_response(message):
                self.told += 1
                self._forget(key)

    def _try(self, key: tuple[Address, Name]) -> None:
        """Send it, from another of our addresses each time, and wait for twice as long as before."""
        news, place = self._news[key], key[0]
        hosts = [host for host in self._hosts if family_of(host) == family_of(place[0])]
        if not hosts or news.tries >= TRIES:
            self.unanswered += 1
            self._log.info("name server {place} does not answer that zone {zone} has changed", place=place[0],
                           zone=key[1].to_text(), log_rationed=True)
            self._forget(key)
            return
        host = hosts[news.tries % len(hosts)]
        wait = FIRST_WAIT_SECONDS * 2 ** (news.tries // len(hosts))
        news.tries += 1
        news.timer = self._reactor.callLater(wait, self._try, key)
        self._send(host, news.message.to_wire(), place)

    def _send(self, host: str, data: bytes, place: Address) -> None:
        try:
            if host not in self._ways:
                self._ways[host] = _Way(self._reactor, host, self)
            self._ways[host].transport.write(data, place)
        except (CannotListenError, OSError) as problem:
            # the address may be another machine's now, and ours again later
            self._log.debug("nothing leaves from {host}: {why}", host=host, why=problem)
            way = self._ways.pop(host, None)
            if way is not None:
                way.stop()

    def _forget(self, key: tuple[Address, Name]) -> None:
        news = self._news.pop(key, None)
        if news is not None and news.timer is not None and news.timer.active():
            news.timer.cancel()


class _Way(DatagramProtocol):
    """A socket of its own, whose port nobody shares or guesses, on one of our addresses."""

    transport: Any

    def __init__(self, reactor: Any, host: str, notifying: Notifying) -> None:
        """Raises CannotListenError."""
        self._notifying = notifying
        self._port = reactor.listenUDP(0, self, interface=host)

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """See DatagramProtocol."""
        self._notifying.answered(datagram, (addr[0], addr[1]))

    def connectionRefused(self) -> None:
        """Do nothing: it may listen at the next try."""

    def stop(self) -> None:
        """Close it."""
        self._port.stopListening()


def _notification(origin: Name, soa: RRset) -> Message:
    """Return the message of RFC 1996 §3.7, with the new SOA as a hint."""
    message = make_query(origin, RdataType.SOA, id=randbits(16))
    message.set_opcode(Opcode.NOTIFY)
    message.flags = message.flags & ~Flag.RD | Flag.AA
    message.answer.append(soa)
    return message
