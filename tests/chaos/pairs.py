"""Two servers of a scenario's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

from contexts.databases import Database, Databases
from contexts.model import Side
from tests.conftest import running_servers


@contextmanager
def own_pair(name: str) -> Iterator[Databases]:
    """A shared database on PostgreSQL 16 and a service database on 18, gone with the block."""
    with running_servers() as servers:
        majors = {Side.SHARED: 16, Side.SERVICE: 18}
        yield Databases(*(_new(servers(major).url(), f"{name}_{side}", side) for side, major in majors.items()))


def _new(url: str, name: str, side: Side) -> Database:
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return Database(side, psycopg.conninfo.make_conninfo(url, dbname=name))
