"""A real PgBouncer of its own for a test, with passwords for its clients and its console."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import conninfo

from contexts.databases import Database
from contexts.embedded import die_with_parent, free_port
from tests.conftest import need
from tests.waiting import PATIENCE_S, wait_until

ADMIN_PASSWORD = "bouncer-secret"
PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@dataclass
class PgBouncerProcess:
    """One process; entries by name, each with the database that it leads to at first."""

    folder: Path
    name: str
    entries: Mapping[str, Database]
    pool_mode: str = "transaction"
    #: More lines of its configuration.
    more: str = ""
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        need("pgbouncer", PROGRAM is not None, "apt-get install pgbouncer")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.file = self.folder / f"{self.name}.ini"
        self.users = self.folder / f"{self.name}.users"
        self.users.write_text(f'"admin" "{ADMIN_PASSWORD}"\n"postgres" "client-secret"\n')
        lines = [f"{entry} = {_address(database)} pool_size=30" for entry, database in self.entries.items()]
        self.file.write_text(
            "; made by a test\n[databases]\n" + "\n".join(lines) + "\n\n[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\nauth_type = scram-sha-256\n"
            f"auth_file = {self.users}\nadmin_users = admin\npool_mode = {self.pool_mode}\nmax_client_conn = 200\n"
            f"ignore_startup_parameters = extra_float_digits,options\n{self.more}"
        )
        if account := _account():
            for path in (self.folder, self.file, self.users):
                os.chown(path, account["user"], account["group"])

    @property
    def admin_url(self) -> str:
        return f"postgresql://admin:{ADMIN_PASSWORD}@127.0.0.1:{self.port}/pgbouncer"

    def url(self, entry: str) -> str:
        return f"postgresql://postgres:client-secret@127.0.0.1:{self.port}/{entry}"

    def start(self) -> PgBouncerProcess:
        log = (self.folder / f"{self.name}.log").open("ab")
        self.process = subprocess.Popen(
            [str(PROGRAM), str(self.file)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            preexec_fn=die_with_parent(signal.SIGTERM), **_account(),
        )  # fmt: skip
        wait_until(self._answers, self.log)
        return self

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> None:
        """End it at once, as a crash does."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE_S)

    def log(self) -> str:
        return (self.folder / f"{self.name}.log").read_text()[-3000:]

    def shows(self, entry: str) -> tuple[int, bool]:
        """The port that an entry leads to, and whether it is paused, as the running process says."""
        with psycopg.connect(self.admin_url, autocommit=True) as conn:
            cursor = conn.execute("SHOW DATABASES")
            names = [column.name for column in cursor.description or ()]
            rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        (row,) = [row for row in rows if row["name"] == entry]
        return int(row["port"]), bool(row["paused"])

    def __enter__(self) -> PgBouncerProcess:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.admin_url, autocommit=True).close()
        except psycopg.OperationalError:
            assert self.process is not None
            assert self.process.poll() is None, self.log()
            return False
        return True


def declaration(process: PgBouncerProcess, **more: str) -> str:
    """What ``context.toml`` says of it; the admin's URL comes from ``BOUNCER_<NAME>``."""
    entries = ", ".join(f'"{entry}"' for entry in process.entries)
    settings = {"name": process.name, "admin": f"${{BOUNCER_{process.name.upper()}}}", "config": str(process.file)}
    lines = [f'{key} = "{value}"' for key, value in {**settings, **more}.items()]
    return "\n".join(["", "[[traffic.pgbouncer]]", *lines, f"databases = [{entries}]", ""])


def port(database: Database) -> int:
    """The port of a server, to recognise a side by."""
    return int(str(conninfo.conninfo_to_dict(database.url)["port"]))


def _address(database: Database) -> str:
    given = conninfo.conninfo_to_dict(database.url)
    return f"host={given['host']} port={given['port']} dbname={given['dbname']}"


def _account() -> dict[str, Any]:
    """PgBouncer refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            account = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    raise AssertionError("running as root, and there is neither a 'postgres' nor a 'nobody' account")
