"""JsSIP and SIP.js in headless Chromium as phones in a test (RFC 7118); what they can do is in browser/*.js."""

import json
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Self

from attrs import frozen

from tests.interop.process import LOOPBACK, InteropError, Process, free_ports, wait_until

FOLDER = Path(__file__).with_name("browser")
START_SECONDS = 30
PATIENCE_SECONDS = 30


class Browser:
    """One Chromium for the phones of a test; `keys` gets the TLS session keys, for tshark."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.keys = folder / "keys"
        (self._port,) = free_ports()
        arguments = ["node", "driver.js", str(self._port), str(folder / "profile"), str(self.keys), _chromium()]
        self.process = Process(arguments, folder / "log", folder=FOLDER)

    def __enter__(self) -> Self:
        self.process.wait_for_text("ready", START_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.end()

    def phone(self, name: str, library: str) -> "BrowserPhone":
        """Open a page with a phone; `library` is "jssip" or "sipjs"."""
        phone = BrowserPhone(self, name)
        phone.ask("open", library)
        return phone

    def ask(self, name: str, method: str, *parameters: object) -> Any:
        """Return what a phone's method gives; raises InteropError with its reason when it does not succeed."""
        url = f"http://{LOOPBACK}:{self._port}/{name}/{method}"
        try:
            with urllib.request.urlopen(url, json.dumps(parameters).encode(), PATIENCE_SECONDS) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as failure:
            raise InteropError(
                f"{name}.{method}: {failure.read().decode()}\n{self.process.text()[-2000:]}"
            ) from failure


@frozen
class BrowserPhone:
    """One page with one phone. It answers every call."""

    browser: Browser
    name: str

    def ask(self, method: str, *parameters: object) -> Any:
        """Return what the method of that name in browser/*.js gives."""
        return self.browser.ask(self.name, method, *parameters)

    def register(self, server: str, uri: str, user: str, password: str) -> str:
        """Connect to `server` (ws:// or wss://), register, and return the status of the answer."""
        return str(self.ask("register", {"server": server, "uri": uri, "user": user, "password": password}))

    def call(self, target: str) -> None:
        """Call a URI and return once the call stands."""
        self.ask("call", target)

    def wait_in_call(self) -> None:
        """Return once the call that came in stands."""
        self.ask("inCall")

    def wait_media(self, packets: int = 20) -> dict[str, Any]:
        """Return the counts of WebRTC once at least `packets` went out and came in."""

        def look() -> dict[str, Any] | None:
            count: dict[str, Any] = self.ask("media")
            return count if min(count["sent"], count["received"]) >= packets else None

        return wait_until(look, f"{packets} media packets each way at {self.name}")

    def hangup(self) -> None:
        """End the call."""
        self.ask("hangup")

    def wait_ended(self) -> str:
        """Return the cause once the call has ended."""
        return str(self.ask("waitEnded"))

    def message(self, target: str, text: str) -> str:
        """Send a MESSAGE and return the status of its answer; raises InteropError when it is refused."""
        return str(self.ask("message", target, text))

    def next_message(self) -> dict[str, str]:
        """Return the next MESSAGE that came, {"from": URI, "text": …}; waits for it."""
        message: dict[str, str] = self.ask("nextMessage")
        return message

    def unregister(self) -> None:
        """Unregister, and return when the registrar has agreed."""
        self.ask("unregister")

    def close(self) -> None:
        """Close the page, as a person does: the phone has no time to unregister."""
        self.ask("close")


def _chromium() -> str:
    found = shutil.which("chromium")
    if found is None:
        raise InteropError("chromium is not installed: tools/setup-debian --test")
    return found
