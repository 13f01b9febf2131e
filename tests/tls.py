"""A PostgreSQL server that takes TLS connections only, with a certificate of its own making."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from contexts.embedded import Server, available_majors
from tests.conftest import need, server_folder
from tests.waiting import wait_until

MAJOR = 15  # the pip package's servers are built without TLS


@contextmanager
def tls_server() -> Iterator[tuple[Server, Path]]:
    """The server and the certificate that its clients have to trust; it is made out to 127.0.0.1."""
    need(f"postgres{MAJOR}", MAJOR in available_majors(), "a PostgreSQL server that is built with TLS")
    need("openssl", bool(shutil.which("openssl")), "apt-get install openssl")
    with server_folder() as folder, Server(folder / "tls", MAJOR) as server:
        data = folder / "tls" / "data"
        certificate = make_certificate(data, "server", "IP:127.0.0.1")
        for file in data.glob("server.*"):
            os.chown(file, data.stat().st_uid, data.stat().st_gid)
        (data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 trust\n")
        with psycopg.connect(server.url(), autocommit=True) as conn:
            conn.execute("ALTER SYSTEM SET ssl = on")
            conn.execute("SELECT pg_reload_conf()")
            wait_until(lambda: conn.execute("SHOW ssl").fetchone() == ("on",))
        trusted = Path(shutil.copy(certificate, folder / "trusted.crt"))
        trusted.chmod(0o644)
        yield server, trusted


def make_certificate(folder: Path, name: str, subject: str) -> Path:
    """``name.crt`` and ``name.key``, self-signed, for ``IP:...`` or ``DNS:...``."""
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test",
         "-addext", f"subjectAltName={subject}", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    key.chmod(0o600)
    return certificate
