"""A server that checks what the generator sends."""

import hashlib
import re
import socket
import threading
import time

from tools.bench.generator import PASSWORD
from tools.bench.processes import LOOPBACK, free_port


class Phonebook:
    """A server in a thread that challenges, checks what comes back against hashlib, and keeps the nonce counts."""

    def __init__(self, pieces: int = 0) -> None:
        """Serve UDP; with `pieces` one TCP connection, each answer cut into so many."""
        self.to_lose = 0
        self.peers: list[str] = []
        self.lost: list[bytes] = []
        self.requests: list[bytes] = []
        self.counts: dict[str, list[int]] = {}
        self.wrong: list[str] = []
        self._pieces = pieces
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM if pieces else socket.SOCK_DGRAM)
        self.port = free_port()
        self._socket.bind((LOOPBACK, self.port))
        if pieces:
            self._socket.listen()
        self._thread = threading.Thread(target=self._serve_stream if pieces else self._serve)
        self._thread.start()

    def close(self) -> None:
        """Stop serving; a stream ended when the generator did."""
        if self._pieces:
            self._thread.join()
            self._socket.close()
            return
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as knock:
            knock.sendto(b"", (LOOPBACK, self.port))
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            data, peer = self._socket.recvfrom(65_535)
            if not data:
                return
            if len(self.lost) < self.to_lose:
                self.lost.append(data)
                continue
            self.requests.append(data)
            self.peers.append(peer[0])
            self._socket.sendto(self._answer(data.decode("ascii")), peer)

    def _serve_stream(self) -> None:
        connection, _ = self._socket.accept()
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := connection.recv(65_535):
                self.requests.append(data)
                answer = b"\r\n" + self._answer(data.decode("ascii"))
                size = -(-len(answer) // self._pieces)
                for start in range(0, len(answer), size):
                    connection.sendall(answer[start : start + size])
                    time.sleep(0.002)

    def _answer(self, request: str) -> bytes:
        cseq = re.search(r"\r\nCSeq: (.*)\r\n", request)
        credentials = re.search(r"\r\nAuthorization: Digest (.*)\r\n", request)
        assert cseq is not None
        status, more = (
            "401 Unauthorized",
            (
                'WWW-Authenticate: Digest realm="other", nonce="no", algorithm=SHA-256, qop="auth"\r\n'
                'WWW-Authenticate: Digest realm="a, b", nonce="x=,y", opaque="z", algorithm=MD5, qop="auth"\r\n'
            ),
        )
        if credentials is not None:
            status, more = "200 OK", ""
            self._check(dict(re.findall(r'(\w+)="?([^"]*?)"?(?:, (?=\w+=)|$)', credentials[1])))
        return f"SIP/2.0 {status}\r\nCSeq: {cseq[1]}\r\n{more}Content-Length: 0\r\n\r\n".encode("ascii")

    def _check(self, given: dict[str, str]) -> None:
        secret = _md5(f"{given['username']}:a, b:{PASSWORD}")
        asked = _md5(f"REGISTER:{given['uri']}")
        expected = _md5(f"{secret}:x=,y:{given['nc']}:{given['cnonce']}:auth:{asked}")
        if given["response"] != expected or given["opaque"] != "z" or given["nonce"] != "x=,y":
            self.wrong.append(str(given))
        self.counts.setdefault(given["username"], []).append(int(given["nc"], 16))


def _md5(text: str) -> str:
    return hashlib.md5(text.encode("ascii")).hexdigest()
