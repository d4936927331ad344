"""Logs: a line per event, as text or JSON, levels as configured, and no secret in any of them."""

import io
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from attrs import frozen
from twisted.application.service import Application
from twisted.logger import ILogObserver, Logger, LogLevel, LogPublisher
from twisted.python.components import Componentized
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from rollcall.ops.config import loads
from rollcall.ops.logs import LogConfig, LoggedService, filtered, observer, writing


@frozen
class Credentials:
    """Something with a secret inside."""

    username: str
    response: str


class Lines:
    """What a logger with this configuration writes."""

    def __init__(self, config: LogConfig, worker: int | None = None) -> None:
        self._file = io.StringIO()
        publisher = LogPublisher(filtered(writing(self._file, config), config, worker))
        self.logger = Logger(namespace="registrar.registering", observer=publisher)
        self.publisher = publisher

    def written(self) -> str:
        return self._file.getvalue()


class WorkerTests(SynchronousTestCase):
    def test_text(self) -> None:
        """What a worker says has its number behind the namespace, and so has what is said about a worker."""
        worker, supervisor = Lines(LogConfig(), 2), Lines(LogConfig(), 0)
        worker.logger.info("ready")
        supervisor.logger.info("worker {worker} has ended", worker=2)
        supervisor.logger.info("ready")
        said = [line[25:] for lines in (worker, supervisor) for line in lines.written().splitlines()]
        self.assertEqual(said, [
            "info  registrar.registering worker=2: ready", "info  registrar.registering worker=2: worker 2 has ended",
            "info  registrar.registering: ready"])

    def test_json(self) -> None:
        """As JSON it is a field."""
        lines = Lines(LogConfig(format="json"), 2)
        lines.logger.info("ready")
        self.assertEqual(json.loads(lines.written())["worker"], 2)

    def test_shared_file(self) -> None:
        """A file of twistd's that several processes write is not rotated under their feet."""
        folder = Path(self.enterContext(TemporaryDirectory()))
        name = str(folder / "twistd.log")
        logs = [observer(LogConfig(), {"nodaemon": True, "logfile": name}, worker) for worker in (0, 1)]
        for log in logs:
            for _ in range(40):
                log({"log_level": LogLevel.info, "log_time": 0.0, "log_namespace": "n", "log_format": "x" * 900})
        self.assertEqual([path.name for path in folder.iterdir()], ["twistd.log"])
        self.assertEqual(len(Path(name).read_text().splitlines()), 80)


class TextTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.lines = Lines(LogConfig())

    def test_a_line(self) -> None:
        """An event is one line: the time in UTC, the level, the namespace and the sentence."""
        self.lines.publisher(
            {
                "log_time": 1700000000.1239,
                "log_level": LogLevel.info,
                "log_namespace": "registrar.registering",
                "log_format": "{aor} registered over {transport}",
                "aor": "sip:alice@example.com",
                "transport": "TCP",
            }
        )
        self.assertEqual(
            self.lines.written(),
            "2023-11-14T22:13:20.123Z info  registrar.registering: sip:alice@example.com registered over TCP\n",
        )

    def test_no_forged_lines(self) -> None:
        """What a phone sent cannot begin a line of its own, colour the terminal or break the encoding."""
        self.lines.logger.info("from {agent}", agent="a\r\nb\x1b[31m\udcff\u2028é")
        line = self.lines.written()
        self.assertEqual(line.count("\n"), 1)
        self.assertTrue(line.endswith("from a\\r\\nb\\x1b[31m\\udcff\\u2028é\n"), line)

    def test_endless_text(self) -> None:
        """Whatever a phone sent, a line has its end, and so has each field."""
        self.lines.logger.info("call {call_id}", call_id="x" * 60_000)
        (line,) = self.lines.written().splitlines()
        self.assertLess(len(line), 1200)
        self.assertTrue(line.endswith("… (60005 characters)"))

    def test_rationed(self) -> None:
        """Of what is marked as noise of strangers only a few lines a minute are written."""
        for _ in range(100):
            self.lines.logger.info("noise", log_rationed=True)
        self.assertEqual(len(self.lines.written().splitlines()), 11)

    def test_failure(self) -> None:
        """A failure has its traceback below the line."""
        try:
            raise ValueError("too\nbad")
        except ValueError:
            self.lines.logger.failure("while answering {what}", what="REGISTER")
        head, *traceback = self.lines.written().splitlines()
        self.assertTrue(head.endswith("critical registrar.registering: while answering REGISTER"), head)
        self.assertEqual(traceback[0], "Traceback (most recent call last):")
        self.assertIn("builtins.ValueError: too", traceback)

    def test_nothing_to_say(self) -> None:
        """An event without a sentence and without a failure writes nothing."""
        self.lines.publisher({"log_time": 1.0, "log_level": LogLevel.info, "log_namespace": "x"})
        self.assertEqual(self.lines.written(), "")


class LevelTests(SynchronousTestCase):
    def test_level(self) -> None:
        """Only events of the configured level and above are written."""
        lines = Lines(LogConfig(level="warn"))
        lines.logger.info("quiet")
        lines.logger.warn("loud")
        self.assertNotIn("quiet", lines.written())
        self.assertIn("loud", lines.written())

    def test_level_of_a_namespace(self) -> None:
        """A namespace, with all below it, may have a level of its own."""
        lines = Lines(LogConfig(levels={"rollcall.net": "debug"}))
        lines.logger.debug("quiet")
        Logger(namespace="rollcall.net.flow", observer=lines.publisher).debug("loud")
        self.assertNotIn("quiet", lines.written())
        self.assertIn("loud", lines.written())

    def test_twisted_chatter(self) -> None:
        """What Twisted's older parts say about their ports is left out, unless it is an error or asked for."""
        for config, expected in (
            (LogConfig(), []),
            (LogConfig(levels={"log_legacy": "info"}), ["Site starting on 80"]),
        ):
            lines = Lines(config)
            legacy = Logger(namespace="log_legacy", observer=lines.publisher)
            legacy.info("Site starting on 80")
            legacy.critical("lost")
            messages = [line.partition(": ")[2] for line in lines.written().splitlines()]
            self.assertEqual(messages, [*expected, "lost"])

    def test_configuration(self) -> None:
        """[log] reads levels by namespace, and refuses unknown ones."""

        @frozen
        class Whole:
            log: LogConfig

        config = loads("[log]\nlevel = 'debug'\nlevels = {'twisted.web' = 'error'}", Whole).log
        self.assertEqual((config.level, config.levels), ("debug", {"twisted.web": "error"}))


class JsonTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.lines = Lines(LogConfig(format="json"))

    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines.written().splitlines()]

    def test_fields_are_kept(self) -> None:
        """An event is one JSON object a line, with its fields beside time, level, namespace and message."""
        self.lines.logger.info("{aor} answered {status}", aor="sip:a@b", status=200, extra=[1, None, {"k": b"\xff"}])
        (line,) = self.objects()
        self.assertRegex(line.pop("time"), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertEqual(
            line,
            {
                "level": "info",
                "namespace": "registrar.registering",
                "message": "sip:a@b answered 200",
                "aor": "sip:a@b",
                "status": 200,
                "extra": [1, None, {"k": "\\xff"}],
            },
        )

    def test_odd_values(self) -> None:
        """Any object is told as text, and a text that is no Unicode does not break the line."""
        self.lines.logger.info("x", agent="\udcff\n", who=Credentials("alice", "r"))
        (line,) = self.objects()
        self.assertEqual(line["agent"], "\\udcff\\n")
        self.assertIn("alice", line["who"])

    def test_failure(self) -> None:
        """A failure's traceback is a field, so that the event stays one line."""
        self.lines.logger.failure("oh", failure=Failure(ValueError("bad")))
        (line,) = self.objects()
        self.assertEqual((line["level"], line["message"]), ("critical", "oh"))
        self.assertIn("ValueError: bad", line["traceback"])


class GuardTests(SynchronousTestCase):
    def both(self, format: str, **fields: Any) -> str:
        """Return what is written in both forms."""
        result = ""
        for config in (LogConfig(), LogConfig(format="json")):
            lines = Lines(config)
            lines.logger.info(format, **fields)
            result += lines.written()
        self.assertEqual(result.count("\n"), 2)
        return result

    def test_secret_fields(self) -> None:
        """A field named like a secret is hidden, in the sentence and among the fields."""
        for name in ("password", "response", "nonce", "cnonce", "secret", "authorization", "old_password", "HA1"):
            for format in ("got {" + name + "}", "got {" + name + "!r:>9}", "nothing"):
                written = self.both(format, **{name: "hush"})
                self.assertNotIn("hush", written)
                self.assertIn("(hidden)", written)

    def test_secrets_inside_of_objects(self) -> None:
        """A format that reaches for a secret in another field gets nothing."""
        credentials = Credentials("alice", "hush")
        for format in ("{c.response} {c.username}", "{d[password]} {c.username}"):
            written = self.both(format, c=credentials, d={"password": "hush"})
            self.assertIn("(hidden) alice", written)
            self.assertNotIn("[password]", written)

    def test_secrets_inside_of_mappings(self) -> None:
        """A mapping among the fields is told without its secrets."""
        lines = Lines(LogConfig(format="json"))
        lines.logger.info("x", user={"username": "alice", "password": "hush"})
        self.assertNotIn("hush", lines.written())
        self.assertIn("alice", lines.written())

    def test_secrets_inside_of_text(self) -> None:
        """Digest values and whole Authorization lines inside a text are hidden; the rest stays."""
        message = (
            "REGISTER sip:x SIP/2.0\\r\\n"
            'Via: z\r\nAuthorization: Digest username="alice", response="hush1"\r\nContact: <sip:c>\r\n'
        )
        written = self.both("got {message_text}", message_text=message)
        self.assertNotIn("hush", written)
        self.assertIn("Contact: <sip:c>", written)
        written = self.both("{x}", x='Digest realm="r", nonce="hush2", response=hush3, uri="u", cnonce="hush4"')
        self.assertNotIn("hush", written)
        self.assertIn('realm=\\"r\\"', written)

    def test_secrets_in_a_traceback(self) -> None:
        """An exception that quotes credentials is told without them."""
        lines = Lines(LogConfig())
        lines.logger.failure("oh", failure=Failure(ValueError('bad response="hush"')))
        self.assertNotIn("hush", lines.written())

    def test_harmless_names(self) -> None:
        """Names that only resemble a secret's are shown."""
        written = self.both("{response_seconds} {announced}", response_seconds=7, announced="this")
        self.assertNotIn("(hidden)", written)


class LoggedServiceTests(SynchronousTestCase):
    def test_the_application_gets_the_observer(self) -> None:
        """The application logs as configured, and twistd, which finds an observer there, makes none of its own."""
        path = Path(self.enterContext(TemporaryDirectory())) / "log"
        application = Application("registrar")
        assert isinstance(application, Componentized)
        service = LoggedService(LogConfig(file=path))
        service.setServiceParent(application)
        found = application.getComponent(ILogObserver)
        found({"log_time": 0.0, "log_level": LogLevel.info, "log_namespace": "n", "log_format": "hello"})
        self.assertEqual(path.read_text(), "1970-01-01T00:00:00.000Z info  n: hello\n")

    def test_inside_of_another_service(self) -> None:
        """Below another service it is an ordinary service."""
        outer = LoggedService(LogConfig())
        inner = LoggedService(LogConfig())
        inner.setServiceParent(outer)
        self.assertEqual(list(outer), [inner])

    def test_where_twistd_would_write(self) -> None:
        """Without a file of its own the log goes where twistd's options say."""
        path = Path(self.enterContext(TemporaryDirectory())) / "log"
        write = observer(LogConfig(), {"logfile": str(path), "nodaemon": True})
        write({"log_time": 0.0, "log_level": LogLevel.info, "log_namespace": "n", "log_format": "é"})
        self.assertIn("n: é\n", path.read_text(encoding="utf-8"))
