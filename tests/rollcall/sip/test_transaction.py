"""Tests of the four transaction tables against the figures of RFC 3261 §17 and RFC 6026, and of what goes with them."""

from twisted.trial.unittest import SynchronousTestCase

from rollcall.sip.message import Request, parse_message
from rollcall.sip.transaction import (
    INVITE_CLIENT,
    INVITE_SERVER,
    NON_INVITE_CLIENT,
    NON_INVITE_SERVER,
    Action,
    Event,
    State,
    Table,
    TransactionConfig,
    acknowledge,
    cancellation,
    event_for,
    keeps_timers,
    seconds_until_t2,
    timer_seconds,
)
from tests.flows import a_request, an_answer

# The figures, edge by edge: state | event | actions | next state. In Confirmed, Proceeding and the like a figure shows
# no edge for what is simply ignored; such rows say "RFC text" and stand where the text has the sentence.

# RFC 6026 §8.4, figure 5; "start D" and "start M" are in its text, "start A" and "start B" in RFC 3261 §17.1.1.2.
FIGURE_5 = """
    Calling    | request         | send, start A, start B     | Calling
    Calling    | timer A         | send again, start A        | Calling
    Calling    | timer B         | time-out to TU             | Terminated
    Calling    | transport error | error to TU                | Terminated
    Calling    | 1xx             | to TU                      | Proceeding
    Calling    | 2xx             | to TU, start M             | Accepted
    Calling    | 300-699         | send ACK, to TU, start D   | Completed
    Proceeding | 1xx             | to TU                      | Proceeding
    Proceeding | 2xx             | to TU, start M             | Accepted
    Proceeding | 300-699         | send ACK, to TU, start D   | Completed
    Accepted   | 2xx             | to TU                      | Accepted
    Accepted   | timer M         |                            | Terminated
    Completed  | 300-699         | send ACK                   | Completed
    Completed  | transport error | error to TU                | Terminated
    Completed  | timer D         |                            | Terminated
"""

# RFC 3261 §17.1.2.2, figure 6; "start E", "start F" and "start K" are in its text.
FIGURE_6 = """
    Trying     | request         | send, start E, start F     | Trying
    Trying     | timer E         | send again, start E        | Trying
    Trying     | timer F         | time-out to TU             | Terminated
    Trying     | transport error | error to TU                | Terminated
    Trying     | 1xx             | to TU                      | Proceeding
    Trying     | 200-699         | to TU, start K             | Completed
    Proceeding | timer E         | send again, start E        | Proceeding
    Proceeding | timer F         | time-out to TU             | Terminated
    Proceeding | transport error | error to TU                | Terminated
    Proceeding | 1xx             | to TU                      | Proceeding
    Proceeding | 200-699         | to TU, start K             | Completed
    Completed  | timer K         |                            | Terminated
"""

# RFC 6026 §8.6, figure 7, with the timers of RFC 3261 §17.2.1. The last edge but one is the text's: "to absorb any
# additional ACK messages"; and an INVITE that the network held back is no new one in Confirmed either.
FIGURE_7 = """
    Proceeding | request         | send again                 | Proceeding
    Proceeding | 1xx             | send                       | Proceeding
    Proceeding | 2xx             | send, start L              | Accepted
    Proceeding | 300-699         | send, start G, start H     | Completed
    Proceeding | transport error | error to TU                | Proceeding
    Accepted   | request         |                            | Accepted
    Accepted   | ACK             | to TU                      | Accepted
    Accepted   | 2xx             | send                       | Accepted
    Accepted   | transport error | error to TU                | Accepted
    Accepted   | timer L         |                            | Terminated
    Completed  | request         | send again                 | Completed
    Completed  | timer G         | send again, start G        | Completed
    Completed  | timer H         | time-out to TU             | Terminated
    Completed  | transport error | error to TU                | Completed
    Completed  | ACK             | start I                    | Confirmed
    Confirmed  | request         |                            | Confirmed
    Confirmed  | ACK             |                            | Confirmed
    Confirmed  | timer I         |                            | Terminated
"""

# RFC 3261 §17.2.2, figure 8; "start J" and the first row ("retransmissions are discarded") are in its text.
FIGURE_8 = """
    Trying     | request         |                            | Trying
    Trying     | 1xx             | send                       | Proceeding
    Trying     | 200-699         | send, start J              | Completed
    Proceeding | request         | send again                 | Proceeding
    Proceeding | 1xx             | send                       | Proceeding
    Proceeding | 200-699         | send, start J              | Completed
    Proceeding | transport error | error to TU                | Terminated
    Completed  | request         | send again                 | Completed
    Completed  | transport error | error to TU                | Terminated
    Completed  | timer J         |                            | Terminated
"""

EVENTS = {
    "request": [Event.REQUEST],
    "ACK": [Event.ACK],
    "1xx": [Event.PROVISIONAL],
    "2xx": [Event.SUCCESS],
    "300-699": [Event.FAILURE],
    "200-699": [Event.SUCCESS, Event.FAILURE],
    "transport error": [Event.TRANSPORT_ERROR],
}
ACTIONS = {
    "send": Action.SEND,
    "send again": Action.RESEND,
    "send ACK": Action.SEND_ACK,
    "to TU": Action.PASS_UP,
    "time-out to TU": Action.REPORT_TIMEOUT,
    "error to TU": Action.REPORT_ERROR,
}

CONFIG = TransactionConfig()
BEGINNINGS = {
    "INVITE client": (INVITE_CLIENT, State.CALLING),
    "other client": (NON_INVITE_CLIENT, State.TRYING),
    "INVITE server": (INVITE_SERVER, State.PROCEEDING),
    "other server": (NON_INVITE_SERVER, State.TRYING),
}


def read_figure(figure: str) -> Table:
    """Return the table that the rows of a figure describe."""
    table: Table = {}
    for row in figure.strip().splitlines():
        state, event, actions, following = (cell.strip() for cell in row.split("|"))
        done = tuple(_action(word.strip()) for word in actions.split(",") if word)
        for each in _events(event):
            key = State[state.upper()], each
            assert key not in table, row
            table[key] = done, State[following.upper()]
    return table


def _action(word: str) -> Action:
    return ACTIONS.get(word) or Action[word.upper().replace(" ", "_")]


def _events(word: str) -> list[Event]:
    return EVENTS.get(word) or [Event[word.upper().replace(" ", "_")]]


class FigureTests(SynchronousTestCase):
    def assert_drawn(self, table: Table, figure: str) -> None:
        drawn = read_figure(figure)
        for key in drawn.keys() | table.keys():
            self.assertEqual(table.get(key), drawn.get(key), key)

    def test_invite_client(self) -> None:
        """The INVITE client has the edges of figure 5 as RFC 6026 §8.4 draws it, and no other."""
        self.assert_drawn(INVITE_CLIENT, FIGURE_5)

    def test_non_invite_client(self) -> None:
        """The client of any other request has the edges of RFC 3261 figure 6 (§17.1.2.2), and no other."""
        self.assert_drawn(NON_INVITE_CLIENT, FIGURE_6)

    def test_invite_server(self) -> None:
        """The INVITE server has the edges of figure 7 as RFC 6026 §8.6 draws it, and no other."""
        self.assert_drawn(INVITE_SERVER, FIGURE_7)

    def test_non_invite_server(self) -> None:
        """The server of any other request has the edges of RFC 3261 figure 8 (§17.2.2), and no other."""
        self.assert_drawn(NON_INVITE_SERVER, FIGURE_8)

    def test_every_state_is_reached(self) -> None:
        """From its first state each machine gets to every state that it knows, and to its end."""
        for name, (table, first) in BEGINNINGS.items():
            seen, waiting = set(), [first]
            while waiting:
                state = waiting.pop()
                seen.add(state)
                waiting += [end for (start, _), (_, end) in table.items() if start is state and end not in seen]
            self.assertEqual(seen, {state for state, _ in table} | {State.TERMINATED}, name)

    def test_nothing_after_the_end(self) -> None:
        """A terminated transaction knows no event."""
        for name, (table, _) in BEGINNINGS.items():
            self.assertNotIn(State.TERMINATED, {state for state, _ in table}, name)

    def test_every_timer_is_heard(self) -> None:
        """What a step starts to wait for, the state that it leads to has a row for."""
        for name, (table, _) in BEGINNINGS.items():
            for (state, event), (actions, following) in table.items():
                for action in actions:
                    if isinstance(action.value, Event):
                        self.assertIn((following, action.value), table, (name, state, event))

    def test_every_timer_of_a_state_is_running_there(self) -> None:
        """A state that waits for a timer is entered by starting it, or keeps it from the state before."""
        for name, (table, _) in BEGINNINGS.items():
            for (state, event), (actions, following) in table.items():
                if state is following or keeps_timers(state, following):
                    continue
                waited = {timer for start, timer in table if start is following and timer.name.startswith("TIMER_")}
                started = {action.value for action in actions}
                self.assertEqual(waited - started, set(), (name, state, event))


class EventTests(SynchronousTestCase):
    def test_events_of_responses(self) -> None:
        """A response is provisional below 200, a success below 300, and a failure from there on."""
        self.assertEqual(
            {status: event_for(status) for status in (100, 199, 200, 299, 300, 404, 699)},
            {
                100: Event.PROVISIONAL, 199: Event.PROVISIONAL, 200: Event.SUCCESS, 299: Event.SUCCESS,
                300: Event.FAILURE, 404: Event.FAILURE, 699: Event.FAILURE,
            },
        )


class TimerTests(SynchronousTestCase):
    """RFC 3261 appendix A, table 4, with what RFC 6026 §8.11 adds."""

    def seconds(self, timer: str, reliable: bool = False, sent: int = 1, state: State | None = None) -> float | None:
        return timer_seconds(Event[f"TIMER_{timer}"], CONFIG, reliable, sent, state)

    def test_defaults(self) -> None:
        """T1 is 500 ms, T2 4 s, T4 5 s."""
        self.assertEqual((CONFIG.t1_seconds, CONFIG.t2_seconds, CONFIG.t4_seconds), (0.5, 4.0, 5.0))

    def test_unreliable(self) -> None:
        """Over datagrams the timers first run as table 4 says."""
        table = {
            "A": 0.5, "B": 32.0, "D": 32.0, "E": 0.5, "F": 32.0, "G": 0.5, "H": 32.0, "I": 5.0, "J": 32.0, "K": 5.0,
            "L": 32.0, "M": 32.0,
        }
        self.assertEqual({timer: self.seconds(timer) for timer in table}, table)

    def test_reliable(self) -> None:
        """Over a reliable transport nothing is sent again, and no time is spent on waiting for repetitions."""
        table = {
            "A": None, "B": 32.0, "D": 0.0, "E": None, "F": 32.0, "G": None, "H": 32.0, "I": 0.0, "J": 0.0, "K": 0.0,
            "L": 32.0, "M": 32.0,
        }
        self.assertEqual({timer: self.seconds(timer, reliable=True) for timer in table}, table)

    def test_a_doubles_without_end(self) -> None:
        """Timer A doubles after each transmission (§17.1.1.2)."""
        self.assertEqual([self.seconds("A", sent=sent) for sent in range(1, 7)], [0.5, 1.0, 2.0, 4.0, 8.0, 16.0])

    def test_e_and_g_double_up_to_t2(self) -> None:
        """Timers E and G double and stay at T2 (§17.1.2.2: "500 ms, 1 s, 2 s, 4 s, 4 s, 4 s, etc.")."""
        for timer in ("E", "G"):
            self.assertEqual([self.seconds(timer, sent=sent) for sent in range(1, 7)], [0.5, 1.0, 2.0, 4.0, 4.0, 4.0])

    def test_e_in_proceeding(self) -> None:
        """In Proceeding timer E "MUST be reset with a value of T2 seconds" (§17.1.2.2)."""
        self.assertEqual(self.seconds("E", sent=1, state=State.PROCEEDING), 4.0)

    def test_d_is_at_least_32_seconds(self) -> None:
        """A small T1 of ours does not shorten timer D: the peer's T1 is unknown (§17.1.1.2)."""
        quick, slow = TransactionConfig(t1_seconds=0.1), TransactionConfig(t1_seconds=1.0)
        self.assertEqual(timer_seconds(Event.TIMER_D, quick, reliable=False), 32.0)
        self.assertEqual(timer_seconds(Event.TIMER_D, slow, reliable=False), 64.0)

    def test_when_e_becomes_t2(self) -> None:
        """With the defaults timer E is reset to T2 when it fires for the third time, after 3.5 s (RFC 4320 §4.1)."""
        self.assertEqual(seconds_until_t2(CONFIG), 3.5)
        self.assertEqual(seconds_until_t2(TransactionConfig(t1_seconds=1.0, t2_seconds=3.0)), 3.0)
        self.assertEqual(seconds_until_t2(TransactionConfig(t1_seconds=4.0)), 0.0)

    def test_only_e_and_f_outlive_a_step(self) -> None:
        """Changing state stops every timer but those of a non-INVITE client that hears a 1xx."""
        kept = {(old, new) for old in State for new in State if old is not new and keeps_timers(old, new)}
        self.assertEqual(kept, {(State.TRYING, State.PROCEEDING)})

    def test_times_must_be_positive(self) -> None:
        """A T1 of nothing would send without a pause."""
        self.assertRaises(ValueError, TransactionConfig, t1_seconds=0.0)


# RFC 3261 §17.1.1.3, but for the Content-Length that we add.
INVITE = (
    b"INVITE sip:bob@biloxi.com SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP pc33.atlanta.com;branch=z9hG4bKkjshdyff\r\n"
    b"To: Bob <sip:bob@biloxi.com>\r\n"
    b"From: Alice <sip:alice@atlanta.com>;tag=88sja8x\r\n"
    b"Max-Forwards: 70\r\n"
    b"Call-ID: 987asjd97y7atg\r\n"
    b"CSeq: 986759 INVITE\r\n\r\n"
)
ACK = (
    b"ACK sip:bob@biloxi.com SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP pc33.atlanta.com;branch=z9hG4bKkjshdyff\r\n"
    b"To: Bob <sip:bob@biloxi.com>;tag=99sa0xk\r\n"
    b"From: Alice <sip:alice@atlanta.com>;tag=88sja8x\r\n"
    b"Max-Forwards: 70\r\n"
    b"Call-ID: 987asjd97y7atg\r\n"
    b"CSeq: 986759 ACK\r\n\r\n"
)


def as_set(request: Request) -> tuple[str, set[tuple[str, str]]]:
    """Return a request as its start line and its fields in no order."""
    return request.start_line, {(key, value) for key, _, value in request.fields}


class AcknowledgeTests(SynchronousTestCase):
    def test_example_of_the_rfc(self) -> None:
        """The ACK to the INVITE of RFC 3261 §17.1.1.3 is the one printed there."""
        invite, expected = parse_message(INVITE), parse_message(ACK)
        assert isinstance(invite, Request)
        assert isinstance(expected, Request)
        refusal = an_answer(invite, 486, tag="99sa0xk")
        self.assertEqual(as_set(acknowledge(invite, refusal)), as_set(expected))

    def test_single_via(self) -> None:
        """The ACK has one Via, the topmost of the INVITE."""
        invite = a_request(headers=(("Via", "SIP/2.0/UDP 192.0.2.99;branch=z9hG4bKbelow"),))
        self.assertEqual(acknowledge(invite, an_answer(invite, 486)).get_all("Via"), [invite.get("Via")])

    def test_first_of_two_on_a_line(self) -> None:
        """Of several Via in one field only the first goes into the ACK, however odd the others are."""
        via = "SIP/2.0/UDP 192.0.2.10;branch=z9hG4bK-one"
        invite = a_request(via=f"{via}, SIP/2.0/UDP 192.0.2.99;odd=,;;")
        self.assertEqual(acknowledge(invite, an_answer(invite, 486)).get_all("Via"), [via])

    def test_routes(self) -> None:
        """Its Route is that of the INVITE: "those header fields MUST appear in the ACK" (§17.1.1.3)."""
        routes = ["<sip:p1.example.com;lr>", "<sip:p2.example.com;lr>"]
        invite = a_request(headers=tuple(("Route", route) for route in routes))
        self.assertEqual(acknowledge(invite, an_answer(invite, 486)).get_all("Route"), routes)

    def test_nothing_else(self) -> None:
        """Neither the body nor Contact, Require or credentials of the INVITE go into it."""
        invite = a_request(
            headers=(("Contact", "<sip:alice@192.0.2.10>"), ("Require", "100rel"), ("Content-Type", "application/sdp")),
            body=b"v=0\r\n",
        )
        ack = acknowledge(invite, an_answer(invite, 486))
        names = {key for key, _, _ in ack.fields}
        self.assertEqual(names, {"via", "max-forwards", "from", "to", "call-id", "cseq"})
        self.assertEqual(ack.body, b"")


class CancellationTests(SynchronousTestCase):
    """RFC 3261 §9.1."""

    def test_identical_fields(self) -> None:
        """Request-URI, Call-ID, To, From and the number in CSeq are those of the INVITE, "including tags"."""
        invite = a_request(callee="<sip:bob@example.com>;tag=bob", cseq=7)
        cancel = cancellation(invite)
        self.assertEqual(cancel.start_line, "CANCEL sip:bob@example.com SIP/2.0")
        for name in ("Call-ID", "To", "From"):
            self.assertEqual(cancel.get(name), invite.get(name))
        self.assertEqual(cancel.get("CSeq"), "7 CANCEL")

    def test_single_via(self) -> None:
        """It has "only a single Via header field value matching the top Via value" of the INVITE."""
        invite = a_request(headers=(("Via", "SIP/2.0/UDP 192.0.2.99;branch=z9hG4bKbelow"),))
        self.assertEqual(cancellation(invite).get_all("Via"), [invite.get("Via")])

    def test_routes(self) -> None:
        """It includes "that Route header field's values"."""
        routes = ["<sip:p1.example.com;lr>, <sip:p2.example.com;lr>"]
        self.assertEqual(cancellation(a_request(headers=(("Route", routes[0]),))).get_all("Route"), routes)

    def test_requires_nothing(self) -> None:
        """It "MUST NOT contain any Require or Proxy-Require header fields"."""
        cancel = cancellation(a_request(headers=(("Require", "100rel"), ("Proxy-Require", "privacy"))))
        self.assertEqual((cancel.get("Require"), cancel.get("Proxy-Require")), (None, None))
