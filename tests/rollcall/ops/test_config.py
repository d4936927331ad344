"""Configuration files: read whole or refused with every mistake named."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from attrs import evolve, field, frozen
from attrs.validators import ge
from twisted.trial.unittest import SynchronousTestCase

from rollcall.ops.allowed import NotAllowed, between, non_empty, port
from rollcall.ops.config import ConfigError, load, loads, secret


class Speed(Enum):
    SLOW = "slow"
    FAST = "fast"


@frozen(kw_only=True)
class Listen:
    transport: Literal["udp", "tcp"]
    port: int = field(default=5060, validator=port())
    tags: tuple[str, ...] = ()


@frozen(kw_only=True)
class Limits:
    idle_seconds: float = field(default=3, validator=between(1, 9))
    low: int = field(default=1, validator=ge(1))
    high: int = 5

    def __attrs_post_init__(self) -> None:
        if self.low > self.high:
            raise NotAllowed("not above high", "low", self.low)


@frozen(kw_only=True)
class Admin:
    token: str | None = secret(default=None, validator=non_empty())
    host: str = "127.0.0.1"


@frozen(kw_only=True)
class Files:
    state: Path = Path("state")
    system: Path = Path("/etc/hosts")
    none: Path | None = None


@frozen(kw_only=True)
class Whole:
    data_dir: Path
    speed: Speed = Speed.SLOW
    trace: bool = False
    listeners: tuple[Listen, ...] = field(default=(), alias="listen")
    limits: Limits = Limits()
    admin: Admin | None = None
    weights: dict[str, int] = field(factory=dict)
    files: Files = Files()

    def __attrs_post_init__(self) -> None:
        wrong = [NotAllowed("8 at most", key, value) for key, value in self.weights.items() if value > 8]
        if wrong:
            raise ExceptionGroup(
                "weights", [NotAllowed(each.allowed, f"weights.{each.key}", each.value) for each in wrong]
            )


class LoadTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.enterContext(TemporaryDirectory()))
        self.path = self.directory / "rollcall.toml"

    def load(self, text: str) -> Whole:
        self.path.write_text(text)
        return load(self.path, Whole)

    def mistakes(self, text: str) -> list[str]:
        """Return what is wrong with this file, a line each, without the file's name."""
        error = self.assertRaises(ConfigError, self.load, text)
        lines = str(error).splitlines()
        prefix = f"{self.path}: "
        for line in lines:
            self.assertTrue(line.startswith(prefix), line)
        return [line.removeprefix(prefix) for line in lines]

    def test_everything_given(self) -> None:
        """A full file arrives in the nested classes, with paths relative to it."""
        whole = self.load(
            """
            data_dir = "data"
            speed = "fast"
            trace = true
            listen = [{transport = "udp"}, {transport = "tcp", port = 5062, tags = ["a", "b"]}]
            limits = {idle_seconds = 5}
            weights = {n1 = 3}
            admin = {host = "::1", token = "t"}
            """
        )
        self.assertEqual(
            whole,
            Whole(
                data_dir=self.directory.absolute() / "data",
                speed=Speed.FAST,
                trace=True,
                listen=(Listen(transport="udp"), Listen(transport="tcp", port=5062, tags=("a", "b"))),
                limits=Limits(idle_seconds=5.0),
                weights={"n1": 3},
                admin=Admin(host="::1", token="t"),
                files=Files(state=self.directory.absolute() / "state"),
            ),
        )

    def test_defaults(self) -> None:
        """What is not given has its default, and an absolute path stays what it is."""
        whole = self.load('data_dir = "/var/lib/x"')
        self.assertEqual(evolve(whole, files=Files()), Whole(data_dir=Path("/var/lib/x")))

    def test_default_paths(self) -> None:
        """Relative paths start at the file too when they are defaults, whether their section is there or not."""
        for text in ("", "files = {}", "files = {state = 'state'}"):
            files = self.load(f"data_dir = 'd'\n{text}").files
            self.assertEqual(files, Files(state=self.directory.absolute() / "state"))

    def test_every_mistake_at_once(self) -> None:
        """All mistakes are named in one go, each with its dotted path, its value and what is allowed."""
        found = self.mistakes(
            """
            speed = "medium"
            trace = 1
            [[listen]]
            transport = "sctp"
            [[listen]]
            port = 70000
            tags = ["a", 2]
            [limits]
            idle_seconds = 0.5
            low = 0
            [weights]
            n1 = "heavy"
            """
        )
        self.assertEqual(
            found,
            [
                'speed: "medium" is not allowed; allowed: one of slow, fast',
                "trace: 1 is not allowed; allowed: true or false",
                'listen[0].transport: "sctp" is not allowed; allowed: one of udp, tcp',
                "listen[1].port: 70000 is not allowed; allowed: 1 to 65535",
                "listen[1].tags[1]: 2 is not allowed; allowed: text in quotes",
                "listen[1].transport: is missing; allowed: one of udp, tcp",
                "limits.idle_seconds: 0.5 is not allowed; allowed: 1 to 9",
                "limits.low: 0 is not allowed; allowed: >= 1",
                'weights.n1: "heavy" is not allowed; allowed: a whole number',
                "data_dir: is missing; allowed: a path in quotes",
            ],
        )

    def test_the_problem_has_its_parts(self) -> None:
        """A program finds file, key, value and what is allowed apart."""
        error = self.assertRaises(ConfigError, self.load, 'data_dir = "d"\nspeed = "medium"')
        (problem,) = error.problems
        self.assertEqual(
            (problem.file, problem.key, problem.value, problem.allowed),
            (str(self.path), "speed", '"medium"', "one of slow, fast"),
        )

    def test_wrong_types(self) -> None:
        """Nothing is converted on the quiet: no text to a number, no true to 1, no fraction to a whole number."""
        cases = {
            "trace = 'yes'": 'trace: "yes" is not allowed; allowed: true or false',
            "limits = 3": "limits: 3 is not allowed; allowed: a table",
            "limits = {low = true}": "limits.low: true is not allowed; allowed: a whole number",
            "limits = {low = 1.5}": "limits.low: 1.5 is not allowed; allowed: a whole number",
            "limits = {idle_seconds = '4'}": 'limits.idle_seconds: "4" is not allowed; allowed: a number',
            "listen = {}": "listen: {…} is not allowed; allowed: a list, each a table",
            "listen = [1]": "listen[0]: 1 is not allowed; allowed: a table",
            "listen = [{transport = 'udp', tags = 'ab'}]": (
                'listen[0].tags: "ab" is not allowed; allowed: a list, each text in quotes'
            ),
            "weights = [1]": "weights: [1] is not allowed; allowed: a table",
            "admin = 'x'": 'admin: "x" is not allowed; allowed: a table',
        }
        for text, mistake in cases.items():
            self.assertEqual(self.mistakes(f"data_dir = 'd'\n{text}"), [mistake])

    def test_unknown_keys(self) -> None:
        """An unknown key is a mistake; the nearest known one is suggested, or all are listed."""
        self.assertEqual(
            self.mistakes("data_dri = 'd'\ndata_dir = 'd'\n[limits]\nzzz = 1"),
            [
                "data_dri: unknown key; did you mean data_dir?",
                "limits.zzz: unknown key; known here: high, idle_seconds, low",
            ],
        )

    def test_rules_between_values(self) -> None:
        """A rule between values names the key below its section; several broken rules are all named."""
        self.assertEqual(
            self.mistakes("data_dir = 'd'\n[limits]\nlow = 6"),
            ["limits.low: 6 is not allowed; allowed: not above high"],
        )
        self.assertEqual(
            self.mistakes("data_dir = 'd'\nweights = {a = 9, b = 1, c = 10}"),
            ["weights.a: 9 is not allowed; allowed: 8 at most", "weights.c: 10 is not allowed; allowed: 8 at most"],
        )

    def test_secret_from_a_file(self) -> None:
        """A secret may stand in a file of its own, named by `…_file` relative to the configuration."""
        (self.directory / "token").write_text("t0p\n")
        whole = self.load("data_dir = 'd'\n[admin]\ntoken_file = 'token'")
        assert whole.admin is not None
        self.assertEqual(whole.admin.token, "t0p")

    def test_secret_twice(self) -> None:
        """A secret given both ways is a mistake."""
        (self.directory / "token").write_text("t0p\n")
        self.assertEqual(
            self.mistakes("data_dir = 'd'\n[admin]\ntoken = 'x'\ntoken_file = 'token'"),
            ["admin.token_file: is given beside token; allowed: one of them"],
        )

    def test_secret_file_that_is_not_there(self) -> None:
        """A secret's file that cannot be read is named with the reason."""
        self.assertEqual(
            self.mistakes("data_dir = 'd'\n[admin]\ntoken_file = 'none'"),
            ['admin.token_file: "none" is not allowed; allowed: a readable text file (No such file or directory)'],
        )

    def test_secrets_are_not_shown(self) -> None:
        """A secret appears neither in a mistake nor in a repr, wherever it was put."""
        self.assertEqual(
            self.mistakes("data_dir = 'd'\n[admin]\ntoken = 77"),
            ["admin.token: (hidden) is not allowed; allowed: text in quotes"],
        )
        for text in ("admin = [{token = 'hush'}]", "speed = {token = 'hush'}"):
            (mistake,) = self.mistakes(f"data_dir = 'd'\n{text}")
            self.assertNotIn("hush", mistake)
        self.assertNotIn("hush", repr(self.load("data_dir = 'd'\nadmin = {token = 'hush'}")))

    def test_long_values_are_cut(self) -> None:
        """A very long value is not repeated whole."""
        (mistake,) = self.mistakes(f"data_dir = 'd'\nspeed = '{'x' * 500}'")
        self.assertLess(len(mistake), 200)

    def test_no_file(self) -> None:
        """A file that is not there is named with the reason."""
        error = self.assertRaises(ConfigError, load, self.directory / "none.toml", Whole)
        self.assertEqual(str(error), f"{self.directory / 'none.toml'}: cannot be read: No such file or directory")

    def test_no_toml(self) -> None:
        """What is no TOML is named with the line."""
        (mistake,) = self.mistakes('data_dir = "d"\nspeed =\n')
        self.assertTrue(mistake.startswith("is not TOML: "), mistake)
        self.assertIn("line 2", mistake)

    def test_no_text(self) -> None:
        """A file that is not UTF-8 is refused as such."""
        self.path.write_bytes(b"data_dir = '\xff'")
        error = self.assertRaises(ConfigError, load, self.path, Whole)
        self.assertIn("is not UTF-8 text", str(error))

    def test_text_without_a_file(self) -> None:
        """A text can be read too, for a configuration that comes from elsewhere."""
        self.assertEqual(loads("data_dir = 'd'", Whole, Path("/etc/x.toml")).data_dir, Path("/etc/d"))
