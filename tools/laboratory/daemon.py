"""A twistd service of ours as a value: started from its configuration, asked over its admin site, ended by its id."""

import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.interop.process import LOOPBACK, InteropError, wait_until
from tools.laboratory.child import Child

TWISTD = str(Path(sys.executable).with_name("twistd"))
START_SECONDS = 45.0
STOP_SECONDS = 30.0
ANSWER_SECONDS = 10.0


class Daemon(Child):
    """One process, or one with its workers, with its data, its configuration and its log in a folder of its own."""

    def __init__(self, folder: Path, plugin: str, name: str, admin_port: int, token: str, text: str,
                 outlives: bool = False) -> None:
        """`plugin` is what twistd knows it by; `text` is its configuration file."""
        super().__init__(outlives)
        self.folder = folder
        self.name = name
        self.config = folder / f"{plugin}.toml"
        self.log_file = folder / f"{plugin}.log"
        self.admin_port = admin_port
        self._plugin = plugin
        self._token = token
        folder.mkdir(parents=True, exist_ok=True)
        self.config.write_text(text, encoding="utf-8")
        self.config.chmod(0o600)

    # --- what is done to it

    def begin(self) -> None:
        """Start it, again with the data that is there; `wait_ready` says when it serves."""
        if self.running:
            raise InteropError(f"{self.name} runs already")
        self.launch([TWISTD, "--nodaemon", "--pidfile=", self._plugin, "--config", str(self.config)], self.log_file,
                    self.folder)

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        """Return once /readyz says that it should get work. Raises InteropError with the log's end."""
        deadline = time.monotonic() + seconds
        while not self.is_ready():
            if not self.running:
                raise self.error("has ended at its start")
            if time.monotonic() > deadline:
                raise self.error(f"is not ready after {seconds} s: {self.readiness()}")
            time.sleep(0.05)

    def start(self) -> None:
        """Start it and return once it serves."""
        self.begin()
        self.wait_ready()

    def stop(self) -> None:
        """End it as an operator does."""
        self.ask_to_end()
        self.wait_or_kill(STOP_SECONDS)

    def wait_ended(self, seconds: float) -> int:
        """Return its exit status once it has ended by itself. Raises InteropError when it does not in time."""
        return wait_until(lambda: self._child.poll() if self._child else None, f"end of {self.name}", seconds)

    def restart(self) -> None:
        """Stop it when it runs, and start it again; return once it serves."""
        self.stop()
        self.start()

    def signal(self, which: signal.Signals) -> None:
        """Send a signal to it and its workers, when it still runs."""
        # They are in the session of their supervisor. SIGTERM is for it alone: it ends them in order.
        if self._child is not None and self.running:
            (os.kill if which is signal.SIGTERM else os.killpg)(self._child.pid, which)

    # --- what it says

    def log(self) -> str:
        """Return all that it has logged, in all its lives here."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def metrics(self) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
        """Return every sample of /metrics: name to labels, as sorted pairs, to value."""
        found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
        for family in text_string_to_metric_families(self.read("/metrics")):
            for sample in family.samples:
                found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
        return found

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples that have these labels; 0 when there is none."""
        wanted = set(labels.items())
        return sum(value for key, value in self.metrics().get(name, {}).items() if wanted <= set(key))

    def get(self, path: str) -> Any:
        """Return what the admin site answers, from JSON."""
        return json.loads(self.read(path))

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Post a JSON object to the admin site and return what it answers, None for nothing."""
        answer = self.read(path, json.dumps(body or {}).encode())
        return json.loads(answer) if answer else None

    def put(self, path: str, body: Mapping[str, Any]) -> None:
        """Put a JSON object to the admin site."""
        self.read(path, json.dumps(body).encode(), "PUT")

    def read(self, path: str, body: bytes | None = None, method: str | None = None) -> str:
        """Return the text that the admin site answers to a GET, or with a body to a POST or another `method`.

        Raises urllib.error.HTTPError when it refuses.
        """
        headers = {"Authorization": f"Bearer {self._token}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(f"http://{LOOPBACK}:{self.admin_port}{path}", body, headers, method=method)
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
            return str(answer.read().decode())

    def is_ready(self) -> bool:
        """Tell whether /readyz says that it should get work."""
        return self.readiness() == ""

    def readiness(self) -> str:
        """Return why it should get no work; empty when it should."""
        try:
            self.read("/readyz")
        except urllib.error.HTTPError as refused:
            return refused.read().decode(errors="replace")
        except OSError as problem:
            return str(problem)
        return ""

    def wait_for_log(self, wanted: str, seconds: float = 10.0) -> None:
        """Return when the log contains `wanted`. Raises InteropError when it does not in time."""
        wait_until(lambda: wanted in self.log() or None, f"{wanted!r} in {self.log_file}", seconds)

    def error(self, what: str) -> InteropError:
        """Return the exception that says `what` went wrong, with the last lines of the log."""
        return InteropError(f"{self.name} {what}\n--- end of {self.log_file} ---\n{self.log()[-3000:]}")
