"""A server on the loopback that keeps requests letter by letter and answers with raw bytes, well-formed or not."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

Answer = Callable[[int], Iterator[bytes]]
"""Number of the request -> the pieces that are sent, one after the other; then the connection is closed."""


@dataclass
class RawServer:
    """What came, in order."""

    port: int
    heads: list[list[str]] = field(default_factory=list)
    """Lines of each request's head."""
    bodies: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def headers(self, number: int) -> dict[str, str]:
        """Lower-case name -> value; a name that comes twice is an error."""
        pairs = [line.split(": ", 1) for line in self.heads[number][1:]]
        assert len({name.lower() for name, _ in pairs}) == len(pairs)
        return {name.lower(): value for name, value in pairs}


@contextmanager
def serving(answer: Answer) -> Iterator[RawServer]:
    """A server for the block."""
    lock = threading.Lock()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            lines = []
            while line := self.rfile.readline().strip():
                lines.append(line.decode("latin-1"))
            length = next((int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length:")), 0)
            body = self.rfile.read(length)
            if not lines:
                return
            with lock:
                number = len(found.heads)
                found.heads.append(lines)
                found.bodies.append(body)
            with suppress(OSError):  # the client gave up
                for piece in answer(number):
                    self.wfile.write(piece)

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address, daemon_threads, block_on_close = True, True, False

    with Server(("127.0.0.1", 0), Handler) as server:
        found = RawServer(port=server.server_address[1])
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield found
        server.shutdown()


def reply(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """A whole answer of HTTP/1.1."""
    lines = [
        f"HTTP/1.1 {status}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
