"""A minimal transaction pooler, as PgBouncer is one: a backend is lent to a client for one transaction at a time."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

_SSL_REQUEST = 80877103
_GSS_REQUEST = 80877104


class Pooler:
    """Lends backends of the server on ``port``; drops the start-up parameter ``options`` where told to."""

    def __init__(self, port: int, *, drop_options: bool, pool: bool) -> None:
        self._server = port
        self._drop_options = drop_options
        self._pool = pool
        self._idle: list[socket.socket] = []
        self._greeting = b""
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop listening and end all connections."""
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._open.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError):
            startup = self._startup(client)
            backend: socket.socket | None = self._new_backend(startup)
            client.sendall(self._greeting)
            if self._pool and backend:
                self._give_back(backend)
                backend = None
            while (message := _message(client))[:1] != b"X":
                backend = backend or self._take(startup)
                backend.sendall(message)
                if message[:1] in b"QS" and self._answer(backend, client) == b"I" and self._pool:
                    self._give_back(backend)
                    backend = None

    def _startup(self, client: socket.socket) -> bytes:
        while True:
            length, code = struct.unpack("!II", _exactly(client, 8))
            body = _exactly(client, length - 8)
            if code not in (_SSL_REQUEST, _GSS_REQUEST):
                break
            client.sendall(b"N")
        fields = body.split(b"\0")
        pairs = list(zip(fields[::2], fields[1::2], strict=False))
        kept = b"".join(k + b"\0" + v + b"\0" for k, v in pairs if k and not (self._drop_options and k == b"options"))
        return struct.pack("!II", 8 + len(kept) + 1, code) + kept + b"\0"

    def _new_backend(self, startup: bytes) -> socket.socket | None:
        """Connect where the pool has nobody idle; a pooled client is greeted from memory."""
        with self._lock:
            if self._pool and self._greeting:
                return None
        return self._connect(startup)

    def _connect(self, startup: bytes) -> socket.socket:
        backend = socket.create_connection(("127.0.0.1", self._server))
        self._open.append(backend)
        backend.sendall(startup)
        self._greeting = b"".join(_until_ready(backend))
        return backend

    def _take(self, startup: bytes) -> socket.socket:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return self._connect(startup)

    def _give_back(self, backend: socket.socket) -> None:
        with self._lock:
            self._idle.append(backend)

    @staticmethod
    def _answer(backend: socket.socket, client: socket.socket) -> bytes:
        message = b""
        for message in _until_ready(backend):
            client.sendall(message)
        return message[-1:]


def _until_ready(backend: socket.socket) -> Iterator[bytes]:
    while True:
        message = _message(backend)
        yield message
        if message[:1] == b"Z":
            return


def _message(peer: socket.socket) -> bytes:
    head = _exactly(peer, 5)
    return head + _exactly(peer, struct.unpack("!I", head[1:])[0] - 4)


def _exactly(peer: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = peer.recv(count - len(data))
        if not part:
            raise EOFError
        data += part
    return data
