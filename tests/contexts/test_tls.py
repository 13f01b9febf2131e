"""TLS settings of a URL reach the server, and what is wrong with a certificate is said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg import conninfo

from contexts.databases import Database
from contexts.embedded import Server
from contexts.errors import AccessDenied, CarveoutError, DatabaseUnreachable
from contexts.model import Side
from tests.tls import make_certificate, tls_server


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Server, Path]]:
    with tls_server() as made:
        yield made


def refused(server: Server, **settings: str) -> CarveoutError:
    database = Database(Side.SHARED, conninfo.make_conninfo(server.url(), **settings))
    with pytest.raises(CarveoutError) as caught:
        database.connect("test").close()
    return caught.value


def test_the_settings_of_the_url_pass_through(server: tuple[Server, Path]) -> None:
    url = conninfo.make_conninfo(server[0].url(), sslmode="verify-full", sslrootcert=str(server[1]))
    with Database(Side.SHARED, url).connect("test") as conn:
        row = conn.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
    assert row == (True,)


def test_a_server_that_wants_tls_says_so(server: tuple[Server, Path]) -> None:
    error = refused(server[0], sslmode="disable")
    assert isinstance(error, AccessDenied)
    assert "no encryption" in error.message
    assert "sslmode=require" in error.next_step


def test_a_certificate_that_nobody_vouches_for(server: tuple[Server, Path], tmp_path: Path) -> None:
    other = make_certificate(tmp_path, "other", "IP:127.0.0.1")
    error = refused(server[0], sslmode="verify-full", sslrootcert=str(other))
    assert isinstance(error, DatabaseUnreachable)
    assert "certificate verify failed" in error.message
    assert "sslrootcert" in error.next_step
    assert not error.transient


def test_no_certificate_to_trust(server: tuple[Server, Path], tmp_path: Path) -> None:
    error = refused(server[0], sslmode="verify-ca", sslrootcert=str(tmp_path / "none.crt"))
    assert "does not exist" in error.message
    assert "sslrootcert" in error.next_step


def test_a_certificate_of_another_host(server: tuple[Server, Path]) -> None:
    error = refused(
        server[0], sslmode="verify-full", sslrootcert=str(server[1]), host="db.example", hostaddr="127.0.0.1"
    )
    assert 'does not match host name "db.example"' in error.message
    assert "the name in the certificate" in error.next_step


def test_a_server_without_tls(servers: object) -> None:
    assert callable(servers)
    error = refused(servers(16), sslmode="require")
    assert "server does not support SSL" in error.message
    assert "ssl = on" in error.next_step
