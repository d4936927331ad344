"""Real Redis for tests and the lab: one server; a master with replicas and Sentinels; or a Cluster. All on loopback.

Every server is a process of its own with a folder of its own, whose data survive `kill` and `restart`.
"""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Self

from attrs import field, frozen

from tests.interop.process import LOOPBACK, free_ports, wait_until
from tests.rollcall.net.certificates import an_authority
from tools.laboratory.redis_process import RedisProcess, Wire

Kind = Literal["single", "sentinel", "cluster"]

MASTER_NAME = "rollcall"
REPLICAS = 2
SENTINELS = 3
QUORUM = 2
CLUSTER_MASTERS = 3
SLOTS = 16384
# A silent master is replaced within about two and a half seconds: tests wait for it. With 500 ms Sentinels now and then
# depose the new master, too: they ping that seldom themselves.
DOWN_AFTER_MS = 1000
FAILOVER_TIMEOUT_MS = 3000
NODE_TIMEOUT_MS = 1000
START_SECONDS = 20.0
# Data are on disk within a second, and replicas lose no time.
SERVER_LINES = """appendonly yes
appendfsync everysec
save ""
shutdown-timeout 0
repl-diskless-sync-delay 0
repl-ping-replica-period 1"""


@frozen(kw_only=True)
class RedisUser:
    """An ACL user of all servers; the first of several is the one that the servers use among themselves."""

    name: str
    password: str = field(repr=False)
    rules: str = "~* &* +@all"


class RedisServers:
    """All processes of one kind of Redis. Use it as a context manager, or call `start` and `stop`."""

    def __init__(
        self,
        folder: Path,
        kind: Kind = "single",
        tls: bool = False,
        users: tuple[RedisUser, ...] = (),
        outlives: bool = False,
    ) -> None:
        """With `users` the default user is off. Without `outlives` all end with this process."""
        self.kind = kind
        self.folder = folder
        self.users = users
        self.servers: list[RedisProcess] = []
        self.sentinels: list[RedisProcess] = []
        self._outlives = outlives
        folder.mkdir(parents=True, exist_ok=True)
        self._certificates = self._certified() if tls else None
        first = users[0] if users else None
        self._wire = Wire(
            authority=self._certificates[0] if self._certificates else None,
            username=first.name if first else "",
            password=first.password if first else "",
        )

    # --- what everybody asks

    @property
    def addresses(self) -> tuple[str, ...]:
        """host:port of what a registrar is told: the server, the Sentinels, or the nodes of the Cluster."""
        told = self.sentinels if self.kind == "sentinel" else self.servers
        return tuple(process.address for process in told)

    @property
    def pids(self) -> tuple[int, ...]:
        """The ids of all processes that were started last, whether they still run or not."""
        return tuple(process.pid for process in self._all())

    @property
    def described(self) -> list[dict[str, Any]]:
        """What the lab tells of each process: its part, its address and its id."""
        return [{"role": each.role, "address": each.address, "pid": each.pid} for each in self._all()]

    @property
    def settings(self) -> dict[str, Any]:
        """What stands in the section [redis] of a registrar that uses these servers."""
        found: dict[str, Any] = {"mode": self.kind, "addresses": list(self.addresses)}
        if self.kind == "sentinel":
            found["master"] = MASTER_NAME
        if self.users:
            found |= {"username": self.users[0].name, "password": self.users[0].password}
            if self.kind == "sentinel":
                found |= {"sentinel_username": self.users[0].name, "sentinel_password": self.users[0].password}
        if self._certificates:
            found |= {"tls": True, "tls_authority_file": str(self._certificates[0])}
        return found

    def command(self, server: RedisProcess, *words: str | bytes | int) -> Any:
        """Return what a server answers; raises RuntimeError with its text when it refuses, OSError when it is away."""
        return server.ask(*words)

    def master(self) -> RedisProcess:
        """Return the master that the server itself, or most Sentinels, name now. Not for a Cluster."""
        if self.kind != "sentinel":
            return self.servers[0]
        port = max(named := [self._named_by(each) for each in self.sentinels if each.running], key=named.count)
        return next(server for server in self.servers if server.port == port)

    def master_of(self, slot: int) -> RedisProcess:
        """Return the process that serves a slot of the Cluster, as the first node that answers says."""
        for server in self.servers:
            if server.running:
                for first, last, master, *_ in server.ask("CLUSTER", "SLOTS"):
                    if first <= slot <= last:
                        return next(each for each in self.servers if each.port == master[1])
        raise RuntimeError(f"nobody serves slot {slot}")

    # --- what is done to them

    def start(self) -> None:
        """Start all and return once they know each other and serve."""
        try:
            if self.kind == "single":
                self._start_single()
            elif self.kind == "sentinel":
                self._start_sentinel()
            else:
                self._start_cluster()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all processes, those that are paused too. Their data stay."""
        for process in self._all():
            process.signal(signal.SIGTERM)
            process.signal(signal.SIGCONT)
        for process in self._all():
            process.end()

    def kill(self, pid: int) -> None:
        """End one process at once, as a crash does."""
        self._of(pid).kill()

    def pause(self, pid: int) -> None:
        """Let a process hang: its connections stay, and nobody answers."""
        self._of(pid).signal(signal.SIGSTOP)

    def resume(self, pid: int) -> None:
        """Let a paused process go on."""
        self._of(pid).signal(signal.SIGCONT)

    def restart(self, index: int) -> None:
        """Start servers[index] again, on its port and with the data that is on disk; return once it answers."""
        server = self.servers[index]
        server.kill()
        server.start()
        server.wait_until_it_answers(START_SECONDS)

    def part(self, master: RedisProcess) -> None:
        """Let the replicas of a master get nothing any more: what it acknowledges from now on, it alone has."""
        for server in self._others(master):
            server.ask("CONFIG", "SET", "masterauth", "not the password")
        master.ask("CLIENT", "KILL", "TYPE", "replica")

    def rejoin(self, master: RedisProcess) -> None:
        """End `part`, whether the master still lives or not."""
        for server in self._others(master):
            server.ask("CONFIG", "SET", "masterauth", self.users[0].password if self.users else "")

    # --- how they are started

    def _start_single(self) -> None:
        self._started(self._server(free_ports(1)[0]))

    def _start_sentinel(self) -> None:
        master, *replicas = free_ports(1 + REPLICAS)
        self._started(self._server(master))
        for port in replicas:
            self._started(self._server(port, "replica", f"replicaof {LOOPBACK} {master}"))
        self._wait_for(lambda: f"connected_slaves:{REPLICAS}" in self._info(0, "replication"), "replicas")
        self._wait_for(self._all_replicas_follow, "synchronised replicas")
        for port in free_ports(SENTINELS):
            sentinel = self._process(port, "sentinel", self._sentinel_lines(master))
            self.sentinels.append(sentinel)
            sentinel.start()
        for sentinel in self.sentinels:
            sentinel.wait_until_it_answers(START_SECONDS)
        self._wait_for(self._sentinels_know_all, "Sentinels that know each other")

    def _start_cluster(self) -> None:
        ports = free_ports(2 * CLUSTER_MASTERS)
        buses = free_ports(2 * CLUSTER_MASTERS)
        for port, bus in zip(ports, buses, strict=True):
            lines = f"cluster-enabled yes\ncluster-port {bus}\ncluster-node-timeout {NODE_TIMEOUT_MS}"
            lines += "\ncluster-require-full-coverage no\ncluster-replica-validity-factor 0"
            self._started(self._server(port, "node", lines))
        masters, replicas = self.servers[:CLUSTER_MASTERS], self.servers[CLUSTER_MASTERS:]
        for index, server in enumerate(self.servers):
            server.ask("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
            self.servers[0].ask("CLUSTER", "MEET", LOOPBACK, server.port, buses[index])
        for index, server in enumerate(masters):
            first, end = (SLOTS * each // CLUSTER_MASTERS for each in (index, index + 1))
            server.ask("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
        self._wait_for(self._all_have_met, "acquaintance of all nodes")
        for master, replica in zip(masters, replicas, strict=True):
            replica.ask("CLUSTER", "REPLICATE", master.ask("CLUSTER", "MYID"))
        self._wait_for(self._cluster_is_whole, "whole Cluster")

    def _server(self, port: int, role: str = "server", lines: str = "") -> RedisProcess:
        peers = f"masteruser {self.users[0].name}\nmasterauth {self.users[0].password}" if self.users else ""
        return self._process(port, role, "\n".join((SERVER_LINES, peers, lines)))

    def _process(self, port: int, role: str, lines: str) -> RedisProcess:
        listening = f"bind {LOOPBACK}\nprotected-mode no\n"
        if self._certificates:
            authority, certificate, key = self._certificates
            listening += f"port 0\ntls-port {port}\ntls-cert-file {certificate}\ntls-key-file {key}\n"
            listening += f"tls-ca-cert-file {authority}\ntls-auth-clients optional\ntls-replication yes\n"
            listening += "tls-cluster yes\n" if self.kind == "cluster" else ""
        else:
            listening += f"port {port}\n"
        users = "\n".join(f"user {user.name} on >{user.password} {user.rules}" for user in self.users_of(role))
        if users:
            users += "\nuser default off"
        return RedisProcess(
            self.folder / f"{role}-{port}",
            role,
            port,
            "\n".join((listening, users, lines)),
            self._wire,
            outlives=self._outlives,
        )

    def users_of(self, role: str) -> tuple[RedisUser, ...]:
        """Return the users of a server, or of a "sentinel"."""
        return self.users

    def _sentinel_lines(self, master: int) -> str:
        lines = [
            f"sentinel monitor {MASTER_NAME} {LOOPBACK} {master} {QUORUM}",
            f"sentinel down-after-milliseconds {MASTER_NAME} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {MASTER_NAME} {FAILOVER_TIMEOUT_MS}",
        ]
        if self.users:
            first = self.users[0]
            lines += [
                f"sentinel auth-user {MASTER_NAME} {first.name}",
                f"sentinel auth-pass {MASTER_NAME} {first.password}",
                f"sentinel sentinel-user {first.name}",
                f"sentinel sentinel-pass {first.password}",
            ]
        return "\n".join(lines)

    def _started(self, server: RedisProcess) -> None:
        self.servers.append(server)
        server.start()
        server.wait_until_it_answers(START_SECONDS)

    def _certified(self) -> tuple[Path, Path, Path]:
        authority = an_authority(self.folder, "redis-authority")
        issued = authority.issue(LOOPBACK, "localhost", label="redis")
        return authority.file, issued.certificate_file, issued.key_file

    # --- what is waited for

    def _wait_for(self, look: Callable[[], bool], what: str) -> None:
        wait_until(lambda: look() or None, what, START_SECONDS)

    def _info(self, index: int, section: str) -> str:
        return str(self.servers[index].ask("INFO", section).decode())

    def _all_replicas_follow(self) -> bool:
        return all("master_link_status:up" in self._info(index, "replication") for index in range(1, 1 + REPLICAS))

    def _sentinels_know_all(self) -> bool:
        for sentinel in self.sentinels:
            flat = sentinel.ask("SENTINEL", "MASTER", MASTER_NAME)
            known = dict(zip(flat[::2], flat[1::2], strict=True))
            if int(known[b"num-slaves"]) != REPLICAS or int(known[b"num-other-sentinels"]) != SENTINELS - 1:
                return False
        return True

    def _all_have_met(self) -> bool:
        lines = [server.ask("CLUSTER", "NODES").decode().splitlines() for server in self.servers]
        return all(
            len(known) == len(self.servers) and not any("handshake" in line or "noaddr" in line for line in known)
            for known in lines
        )

    def _cluster_is_whole(self) -> bool:
        for index, server in enumerate(self.servers):
            if b"cluster_state:ok" not in server.ask("CLUSTER", "INFO"):
                return False
            if len(slots := server.ask("CLUSTER", "SLOTS")) != CLUSTER_MASTERS or any(len(each) != 4 for each in slots):
                return False
            if index >= CLUSTER_MASTERS and "master_link_status:up" not in self._info(index, "replication"):
                return False
        return True

    def _named_by(self, sentinel: RedisProcess) -> int:
        return int(sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER_NAME)[1])

    def _all(self) -> list[RedisProcess]:
        return [*self.servers, *self.sentinels]

    def _others(self, server: RedisProcess) -> list[RedisProcess]:
        return [each for each in self.servers if each is not server and each.running]

    def _of(self, pid: int) -> RedisProcess:
        return next(process for process in self._all() if process.pid == pid)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
