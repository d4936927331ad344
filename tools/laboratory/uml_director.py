"""An LVS director in User-Mode Linux: keepalived with a file of ours on a real IPVS, and what it says of itself."""

from collections.abc import Callable, Mapping
from pathlib import Path
from time import time

from attrs import field, frozen

from tests.cluster.namespaces import Namespace
from tests.interop.process import InteropError, wait_until
from tools.laboratory.uml import Uml, UmlFiles

START_SECONDS = 60.0
LOG_CHARACTERS = 4000
PROTOCOLS = ("TCP", "UDP")


@frozen
class RealServer:
    """One line of ipvsadm -ln."""

    weight: int
    active: int
    inactive: int


@frozen
class Flow:
    """One line of /proc/net/ip_vs_conn."""

    protocol: str
    client: str
    server: str
    """Which real server has it: host:port."""
    state: str


@frozen
class State:
    """What a director knows at one moment."""

    text: str = ""
    addresses: frozenset[str] = frozenset()
    services: Mapping[str, Mapping[str, RealServer]] = field(factory=dict)
    """By "TCP 10.0.0.1:5060": the real servers by their "host:port"."""
    flows: tuple[Flow, ...] = ()


class Director(Uml):
    """See Uml. `configuration` is its keepalived.conf, `sysctl` what sysctl(8) is to read before."""

    def __init__(self, files: UmlFiles, switch: Namespace, folder: Path, name: str, number: int) -> None:
        super().__init__(files, switch, folder, name, number)
        self._state = folder / "state"

    def configure(self, configuration: str, sysctl: str = "") -> None:
        """Write what it is to do when it is started the next time."""
        (self.folder / "keepalived.conf").write_text(configuration)
        (self.folder / "sysctl.conf").write_text(sysctl)

    def start(self) -> None:
        """See Uml. It knows nothing of before."""
        self._state.unlink(missing_ok=True)
        super().start()

    def state(self) -> State:
        """Return what it knew at most a second ago; nothing when it does not run."""
        if not self.running or not self._state.exists():
            return State()
        return parsed(self._state.read_text(errors="replace"))

    def has(self, address: str) -> bool:
        """Tell whether an address, a virtual one, is on its network card."""
        return address in self.state().addresses

    def wait(self, look: Callable[[State], bool], what: str, seconds: float = START_SECONDS) -> State:
        """Return what it knows once that is so. Raises InteropError when it is not in time."""

        def found() -> State | None:
            if not self.running:
                raise InteropError(f"{self.name} has ended, so there is no {what}")
            state = self.state()
            return state if look(state) else None

        return wait_until(found, f"{what} at {self.name}", seconds)

    def told(self) -> str:
        """Return its tables, without the single flows, and the end of its log, for people."""
        known = "nothing yet"
        if self._state.exists():
            text = self._state.read_text(errors="replace")
            tables, _, flows = text.partition("[flows]\n")
            age = time() - self._state.stat().st_mtime
            known = f"{age:.1f} s ago\n{tables}{len(flows.splitlines())} lines of flows"
        return (f"--- {self.name} ({'runs' if self.running else 'does not run'}), its state {known}\n"
                f"--- end of {self.console} ---\n{self.written()[-LOG_CHARACTERS:]}")


def parsed(text: str) -> State:
    """Return what uml_init has written as values."""
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        if line.startswith("["):
            current = sections.setdefault(line.strip("[]"), [])
        else:
            current.append(line)
    addresses = (line.split()[3] for line in sections.get("addresses", ()) if " inet " in line)
    return State(
        text,
        frozenset(address.partition("/")[0] for address in addresses),
        _services(sections.get("services", [])),
        tuple(_flows(sections.get("flows", []))),
    )


def _services(lines: list[str]) -> dict[str, dict[str, RealServer]]:
    services: dict[str, dict[str, RealServer]] = {}
    current: dict[str, RealServer] = {}
    for words in map(str.split, lines):
        if words[:1] == ["->"] and len(words) == 6 and words[3].isdigit():
            current[words[1]] = RealServer(int(words[3]), int(words[4]), int(words[5]))
        elif words and words[0] in PROTOCOLS:
            current = services.setdefault(f"{words[0]} {words[1]}", {})
    return services


def _flows(lines: list[str]) -> list[Flow]:
    """Return the lines "TCP 0A4D0065 B0C1 0A4D00C8 13C4 0A4D000B 13C4 ESTABLISHED 899 …" as values."""
    found = []
    for words in map(str.split, lines):
        if len(words) >= 8 and words[0] in PROTOCOLS:
            found.append(Flow(words[0], _address(words[1], words[2]), _address(words[5], words[6]), words[7]))
    return found


def _address(host: str, port: str) -> str:
    numbers = ".".join(str(int(host[at : at + 2], 16)) for at in range(0, 8, 2))
    return f"{numbers}:{int(port, 16)}"
