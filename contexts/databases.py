"""The two databases of a migration and how to connect to them.

Every session of Carveout pins the settings that decide how a value is written as text, so a value means the
same on both servers whatever ``ALTER ROLE ... SET`` or ``ALTER DATABASE ... SET`` say there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import conninfo

from contexts.errors import AccessDenied, CarveoutError, ConfigError, DatabaseUnreachable, TlsRefused
from contexts.loader import expand
from contexts.model import Context, Project, Side

#: Settings under which a value has exactly one text form, and no server-side time limit ends our sessions.
PINNED_SETTINGS: Mapping[str, str] = {
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "extra_float_digits": "3",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "xmloption": "content",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "search_path": "pg_catalog",
    "row_security": "off",
    "default_transaction_read_only": "off",
    # Marks a session as ours for the trigger that notes writes past the write locks (carveout.note_write).
    "carveout.mover": "on",
}
CONNECT_TIMEOUT_S = 10
#: The first version that knows ``transaction_timeout``: an older one would refuse the connection.
_TRANSACTION_TIMEOUT_SINCE = 170000
# A setting of the connection that the role may not make ends the login: no sqlstate is left of it.
_SET_DENIED = re.compile(r'permission denied to set parameter "(\w+)"')
#: What libpq says of TLS, and what leads on.
_TLS_STEPS: Mapping[str, str] = {
    "certificate verify failed": "let sslrootcert name the certificate of the authority that signed the server's",
    "root certificate file": "let sslrootcert name the certificate of the authority that signed the server's",
    "does not match host name": "connect by the name in the certificate; hostaddr may hold the address",
    "no encryption": "the server takes TLS only: write sslmode=require or stricter into the URL",
    "server does not support SSL": "set ssl = on at the server, or let sslmode allow a connection without",
}

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True)
class Database:
    """One side's database; ``repr`` never shows the password."""

    side: Side
    url: str = field(repr=False)

    def conninfo(self, purpose: str, **overrides: str) -> str:
        """A libpq conninfo with the pinned settings and ``application_name=carveout/<purpose>``.

        Holds the password where the URL does: never print it, see :meth:`shown`.
        """
        settings = {**PINNED_SETTINGS, **overrides}
        given = conninfo.conninfo_to_dict(self.url)
        options = " ".join([str(given.get("options") or ""), *(f"-c {k}={v}" for k, v in settings.items())]).strip()
        return conninfo.make_conninfo(
            "",
            **{
                "connect_timeout": CONNECT_TIMEOUT_S,
                **given,
                "options": options,
                "application_name": f"carveout/{purpose}",
                "client_encoding": "UTF8",
            },
        )

    def connect(self, purpose: str, *, autocommit: bool = True, **settings: str) -> Connection:
        """Open a psycopg connection with the pinned settings, overridden by ``settings``.

        :raises DatabaseUnreachable: no server answered.
        :raises AccessDenied: the server refused the login.
        """
        try:
            # Prepared statements stay off: they outlive a revision of the tables and then fail.
            conn = psycopg.connect(self.conninfo(purpose, **settings), autocommit=True, prepare_threshold=None)
            if conn.info.server_version >= _TRANSACTION_TIMEOUT_SINCE:
                conn.execute("SET transaction_timeout = 0")
            conn.autocommit = autocommit
            return conn
        except psycopg.OperationalError as error:
            raise self.connection_error(error) from error

    def connection_error(self, error: Exception) -> DatabaseUnreachable | AccessDenied:
        """The named error for a failed login; libpq's message never holds the password."""
        reason = " ".join(str(error).split())
        denied = isinstance(error, psycopg.errors.InvalidAuthorizationSpecification) or any(
            phrase in reason
            for phrase in ("authentication failed", "no password supplied", "no pg_hba.conf entry", "permission denied")
        )
        step = "look at the address, the server and its pg_hba.conf; the URL comes from the project's variables"
        if parameter := _SET_DENIED.search(reason):
            role = conninfo.conninfo_to_dict(self.url).get("user") or "the role"
            step = f"as a superuser there: GRANT SET ON PARAMETER {parameter[1]} TO {role}"
        kind: type[DatabaseUnreachable | AccessDenied] = AccessDenied if denied else DatabaseUnreachable
        for phrase, tls_step in _TLS_STEPS.items():
            if phrase in reason:
                kind, step = AccessDenied if denied else TlsRefused, tls_step
        return kind(f"{self.side} database ({self.shown()}): {reason}", unchanged="nothing was changed", next_step=step)

    def shown(self) -> str:
        """The address without secrets, for messages."""
        info = conninfo.conninfo_to_dict(self.url)
        host = info.get("host") or info.get("hostaddr") or "local"
        return f"{info.get('user') or '?'}@{host}:{info.get('port') or 5432}/{info.get('dbname') or '?'}"


@dataclass(frozen=True)
class Databases:
    """Both sides of one context's migration."""

    shared: Database
    service: Database

    def __getitem__(self, side: Side) -> Database:
        return self.shared if side is Side.SHARED else self.service


def shared_database(project: Project) -> Database:
    """The shared database of the project.

    :raises ConfigError: a ``${VAR}`` is missing or the URL cannot be parsed.
    """
    return _database(Side.SHARED, project.shared.url, f"{project.folder / 'carveout.toml'}: shared.url")


def databases(project: Project, context: Context) -> Databases:
    """Both databases of a context.

    :raises ConfigError: a ``${VAR}`` is missing or a URL cannot be parsed.
    """
    return Databases(shared_database(project), service_database(context))


def service_database(context: Context) -> Database:
    """The service database of a context.

    :raises ConfigError: a ``${VAR}`` is missing or the URL cannot be parsed.
    """
    where = f"{context.folder / 'context.toml'}: service.url"
    return _database(Side.SERVICE, context.service.url, where)


def server_error(error: BaseException) -> CarveoutError | None:
    """The named error for what a server answered and no one closer has named; None where no server is behind it.

    Takes SQLAlchemy's wrapper too, whose own text quotes the statement.
    """
    cause = getattr(error, "orig", error)
    if not isinstance(cause, psycopg.Error):
        return None
    if cause.sqlstate is None:
        reason = " ".join(str(cause).split())
        return DatabaseUnreachable(f"a server went away: {reason}", next_step="look at that server, then try again")
    # The words of these two classes quote values of rows.
    quotes = cause.sqlstate[:2] in ("22", "23")
    words = type(cause).__name__ if quotes else cause.diag.message_primary or type(cause).__name__
    denied = isinstance(cause, psycopg.errors.InsufficientPrivilege)
    return (AccessDenied if denied else CarveoutError)(
        f"a server refused: {words} ({cause.sqlstate})",
        unchanged="the statement's transaction was rolled back",
        next_step=f"carveout {'check' if denied else 'doctor'} CONTEXT says more",
    )


def _database(side: Side, url: str, where: str) -> Database:
    expanded = expand(url, where=where)
    try:
        conninfo.conninfo_to_dict(expanded)
    except psycopg.ProgrammingError as error:
        # The parser's message may quote the URL, and the URL may hold a password.
        raise ConfigError(f"{where}: no libpq URL or conninfo", next_step="write postgresql://user@host/db") from error
    return Database(side, expanded)
