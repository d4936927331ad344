"""One running call gets another media node, by a re-INVITE to each side in the name of the other.

First the callee hears what the caller has said, as the new node puts it; then the caller hears what the callee has
answered. From the first answer on the new node knows where to send, and learns the rest from what arrives.
"""

from collections.abc import Callable
from random import uniform

from attrs import evolve
from twisted.logger import Logger

from registrar.media.choosing import Choosing
from registrar.media.config import MediaConfig
from registrar.media.flags import Arguments, answer, delete, offer
from registrar.media.sdp import codec, described
from registrar.media.session import Session, Who, as_offer, other, version_of, with_version
from registrar.media.sessions import Sessions
from registrar.media.speaking import NoAnswer, Speaking
from registrar.media.timers import Asking, agreed
from rollcall.media.ng import NgRefused, NgUnreachable
from rollcall.media.selection import NoNode, Wanted
from rollcall.media.snapshot import MediaNode, NodeState
from rollcall.sip.errors import ParseError
from rollcall.sip.message import Request, Response

AGAIN_SECONDS = 2.0
"""After so long it is tried again with a phone that could not be reached, or for want of a node."""

# RFC 3261 §14.1: after 491 the owner of the Call-ID waits between 2.1 and 4 s, the other side at most 2 s.
OWNER_WAITS = (2.1, 4.0)
OTHER_WAITS = (0.0, 2.0)

WHO: tuple[Who, Who] = ("caller", "callee")

BUSY = frozenset({430, 480, 491, 500, 503})
"""The phone is in the midst of something: of a re-INVITE of its own, or of its peer's (RFC 3261 §14.2: 500), or of
finding back to us."""


class Again(Exception):
    """It may be tried again, in so many seconds; `why` in a word."""

    def __init__(self, why: str, seconds: float) -> None:
        super().__init__(why)
        self.why = why
        self.seconds = seconds


class Failed(Exception):
    """There is no use in trying again; says why in a word."""


class Over(Exception):
    """The call has ended meanwhile."""


class Moving:
    """Moves calls, one by one."""

    _log = Logger()

    def __init__(self, sessions: Sessions, ng: Asking, choosing: Choosing, speaking: Speaking, config: MediaConfig,
                 now: Callable[[], float], chance: Callable[[float, float], float] = uniform) -> None:
        """`now` is in seconds since the epoch; `chance` gives a number between two."""
        self._sessions = sessions
        self._ng = ng
        self._choosing = choosing
        self._speaking = speaking
        self._config = config
        self._now = now
        self._chance = chance

    async def move(self, call_id: str, lost: str, moves: int) -> None:
        """Lead a call that has `lost` this node through another one. Raises Over, Again and Failed.

        `moves` is how many nodes it had outlived then: when that has become more a phone's own re-INVITE was faster.
        """
        session = await self._sessions.find(call_id)
        if session is None or not session.is_answered or session.moves > moves:
            raise Over
        if not (session.caller.sdp and session.callee.sdp):
            raise Failed("no description")
        node, address = self._chosen(session, lost), session.address
        try:
            await self._say(session, "caller", node)
            session = await self._sessions.find(call_id)
            if session is None:
                raise Over
            await self._say(session, "callee", node)
        except ParseError as problem:
            raise Failed("unreadable") from problem
        if address != node.address:
            await self._let_go(session, address)

    async def hang_up(self, session: Session) -> None:
        """End a call that was hung up while it was moved, for each side that has heard us in the other's name.

        The BYE may have passed another registrar before that knew how far we had counted: then it was refused as older
        than our re-INVITE. Who has taken it has no such call any more, and says so.
        """
        for who in WHO:
            if session.side(who).offsets:
                try:
                    number, _ = session.side(who).spoken_for()
                    await self._speaking.bye(session, who, number)
                except (NoAnswer, ParseError) as problem:
                    self._log.info("a phone may not know that its call is over: {why}", why=str(problem),
                                   log_rationed=True)

    def _chosen(self, session: Session, lost: str) -> MediaNode:
        current = self._choosing.node(session.node)
        is_dead = current is None or current.state is NodeState.DOWN
        if current is not None and not is_dead and session.node != lost:
            # One side hears it from there already.
            return current
        sides = tuple(side.group for side in (session.caller, session.callee))
        without = frozenset({session.node}) if is_dead else frozenset[str]()
        heard = codec(session.callee.sdp).name
        node = self._choosing.choose(Wanted(session.group, sides, session.call_id, without, heard))
        if isinstance(node, NoNode) or node.kind != "rtpengine":
            raise Again("no node", AGAIN_SECONDS)
        return node

    async def _say(self, session: Session, who: Who, node: MediaNode) -> None:
        """Have `node` put what `who` has said last, tell its peer so, and tell `node` what the peer answers."""
        put = await self._asked(node, session, "offer", offer(session, who) | {"sdp": as_offer(session.side(who).sdp)})
        number = 0

        def speak(current: Session) -> Session:
            nonlocal number
            number, side = current.side(who).spoken_for()
            side = evolve(side, version_offset=side.version_offset + 1)
            return evolve(current.with_side(who, side), node=node.id, address=node.address)

        session = await self._change(session, speak)
        response = await self._told(session, who, number, with_version(put, session.side(who).version_offset))
        answered = described(response)
        if answered is None:
            raise Failed("no description")
        await self._asked(node, session, "answer", answer(session, who) | {"sdp": answered.sdp})

        def heard(current: Session) -> Session:
            peer = current.side(other(who))
            # Nobody but us has heard this version: the next one follows on what the other side has heard last.
            skipped = version_of(answered.sdp) - version_of(peer.sdp)
            peer = evolve(peer, sdp=answered.sdp, contact=response.first_value("Contact") or peer.contact,
                          version_offset=peer.version_offset - skipped)
            asked = Request.new("INVITE", "", (("From", current.side(who).address),))
            changed = evolve(current.with_side(other(who), peer), moves=current.moves + (who == "callee"))
            return agreed(changed, asked, response, self._now(), self._config.max_call_seconds)

        await self._change(session, heard)

    async def _change(self, session: Session, update: Callable[[Session], Session]) -> Session:
        changed = await self._sessions.change(session.call_id, update)
        if changed is None or changed.id != session.id:
            raise Over
        return changed

    async def _asked(self, node: MediaNode, session: Session, command: str, arguments: Arguments) -> bytes:
        try:
            reply = await self._ng.ask(node.address, command, arguments, self._config.offer_seconds)
        except NgUnreachable as problem:
            self._choosing.failed(node.id)
            raise Again("no node", AGAIN_SECONDS / 4) from problem
        except NgRefused as problem:
            if not problem.is_full:
                raise Failed("refused by a node") from problem
            self._choosing.failed(node.id)
            raise Again("no room", AGAIN_SECONDS) from problem
        put = reply.get("sdp")
        if not isinstance(put, bytes):
            raise Failed("refused by a node")
        return put

    async def _told(self, session: Session, who: Who, number: int, sdp: bytes) -> Response:
        try:
            response = await self._speaking.invite(session, who, number, sdp)
        except NoAnswer as problem:
            raise Again(str(problem), AGAIN_SECONDS) from problem
        if response.status < 300:
            return response
        if response.status in BUSY:
            raise Again(str(response.status), self._chance(*(OWNER_WAITS if who == "caller" else OTHER_WAITS)))
        raise Failed(str(response.status))

    async def _let_go(self, session: Session, address: str) -> None:
        """Tell the node that was thought dead, in case it is not."""
        try:
            await self._ng.ask(address, "delete", delete(session), self._config.offer_seconds)
        except (NgRefused, NgUnreachable) as problem:
            self._log.debug("{address} was not told that a call has left it: {why}", address=address, why=str(problem))
