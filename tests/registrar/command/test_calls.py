"""`rollcall calls` with an SQLite file, and with MySQL servers that are not there."""

import sqlalchemy as sa
from msgspec.structs import replace

from registrar.calls.parts import CallPart
from registrar.calls.rows import values_of, write
from registrar.database.engines import engine_of
from tests.registrar.call_records import a_failure, an_answer, an_end
from tests.registrar.command.running import CommandCase
from tests.registrar.command.test_db import NOBODY_THERE

DAY = 86400.0
BEGAN = 1_700_000_000.0  # 2023-11-14 22:13:20 UTC


class CallsTests(CommandCase):
    def setUp(self) -> None:
        super().setUp()
        with self.config.open("a") as file:
            file.write("[calls]\nrecords = true\n")

    def engine(self) -> sa.Engine:
        """Return the registrar's file, with our tables."""
        self.run_ok("db", "upgrade")
        return engine_of(self.directory / "data" / "rollcall.sqlite")

    def record(self, *parts: CallPart) -> None:
        """Have these in the database."""
        with self.engine().begin() as connection:
            write(connection, [values_of(part) for part in parts])

    def listed(self, *options: str) -> list[str]:
        """Return the Call-IDs that are shown."""
        return [each["call_id"] for each in self.run_json("calls", *options)["calls"]]

    def test_table(self) -> None:
        """People see who called whom, when, for how long, and who hung up."""
        self.record(an_answer(1, BEGAN), an_end(1, BEGAN + 5 + 3725, by_callee=True), a_failure(2, BEGAN + DAY),
                    an_answer(3, BEGAN + 2 * DAY))
        heading, *lines = self.run_ok("calls").splitlines()
        self.assertEqual([line.split() for line in lines], [
            ["2023-11-16", "22:13:20Z", "sip:alice@example.com", "sip:bob@example.com", "200", "no", "end", "yet", "n1",
             "call-3"],
            ["2023-11-15", "22:13:20Z", "sip:alice@example.com", "sip:bob@example.com", "486", "n1", "call-2"],
            ["2023-11-14", "22:13:20Z", "sip:alice@example.com", "sip:bob@example.com", "200", "1:02:05", "callee",
             "n1", "call-1"]])
        self.assertIn("hung up", heading)

    def test_media_node(self) -> None:
        """People see through which media node a call went."""
        self.record(replace(an_answer(1, BEGAN), media_node="m7"))
        heading, line = self.run_ok("calls").splitlines()
        self.assertEqual(line.split()[-2:], ["m7", "call-1"])
        self.assertIn("media node", heading)

    def test_json(self) -> None:
        """Programs get all there is."""
        self.record(an_answer(1, BEGAN), an_end(1, BEGAN + 60.5, quality='{"other": {"RTP-Stat": "EX=1"}}'))
        (call,) = self.run_json("calls")["calls"]
        self.assertEqual(call, {
            "call_id": "call-1", "caller_tag": "tag of alice", "caller": "sip:alice@example.com",
            "callee": "sip:bob@example.com", "started_at": "2023-11-14T22:13:20.000Z",
            "answered_at": "2023-11-14T22:13:25.000Z", "ended_at": "2023-11-14T22:14:20.500Z", "status": 200,
            "hung_up_tag": "tag of alice", "hung_up_by": "caller", "node": "n1", "media_node": None,
            "quality": {"other": {"RTP-Stat": "EX=1"}}, "tags": ["tag of alice", "tag of bob"]})

    def test_chosen(self) -> None:
        """Calls since a moment, of a user, and no more than so many."""
        self.record(*(an_answer(day, BEGAN + day * DAY) for day in range(5)))
        self.assertEqual(self.listed("--limit", "2"), ["call-4", "call-3"])
        self.assertEqual(self.listed("--since", "2023-11-18"), ["call-4"])
        self.assertEqual(self.listed("--since", "2023-11-17 22:13"), ["call-4", "call-3"])
        self.assertEqual(self.listed("--since", "99999d"), [f"call-{day}" for day in (4, 3, 2, 1, 0)])
        self.assertEqual(len(self.listed("--user", "bob@sip.example.com")), 5)
        self.assertEqual(self.run_failing("calls", "--user", "carol", exit_code=0),
                         "There is no such call in the database.\n")
        self.assertEqual(self.run_failing("calls", "--since", "1h", exit_code=0),
                         "There is no such call in the database.\n")

    def test_wrong_moment(self) -> None:
        """A moment that is none is said to be none."""
        self.assertIn("neither a moment", self.run_failing("calls", "--since", "yesterday", exit_code=2))

    def test_no_table(self) -> None:
        """Without the table it is said how it is made."""
        self.assertIn("rollcall.sqlite does not exist: a registrar makes it", self.run_failing("calls"))
        with self.engine().begin() as connection:
            connection.execute(sa.text("DROP TABLE rollcall_call"))
        self.assertIn("run `rollcall db upgrade`", self.run_failing("calls"))

    def test_no_server(self) -> None:
        """A server that is not there is a sentence."""
        with self.config.open("a") as file:
            file.write(NOBODY_THERE)
        self.assertIn("MySQL at 127.0.0.1:1", self.run_failing("calls"))


class NotRecordedTests(CommandCase):
    def test_said(self) -> None:
        """Who has not asked for records is told why there are none."""
        self.run_ok("db", "upgrade")
        self.assertIn("see [calls] records", self.run_failing("calls", exit_code=0))
