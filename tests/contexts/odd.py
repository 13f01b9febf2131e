"""A shared database with every awkward feature, and a context made of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from psycopg import sql

from contexts import scaffold
from contexts.databases import Database, Databases
from contexts.loader import load_context, load_project
from contexts.model import Context, Grant, Side, TableName

HERE = Path(__file__).parent
WEIRD = '"Odd Schema"."Weird ""Table"""'
TABLES = tuple(
    map(
        TableName.parse,
        (
            WEIRD,
            '"Odd Schema".full_identity',
            '"Odd Schema".index_identity',
            '"Odd Schema".no_identity',
            "parts.events",
            "parts.hashes",
        ),
    )
)
CONTRIB = TableName("Odd Schema", "contrib")


def run(database: Database, text: str) -> None:
    """Run a script."""
    with database.connect("test") as conn:
        conn.execute(sql.SQL(text))


def make(
    new_database: Callable[[int, Side], Database], majors: tuple[int, int], folder: Path, *, contrib: bool = False
) -> tuple[Databases, Context, tuple[scaffold.NotCarried, ...]]:
    """Both databases, and the context ``odd`` of the shared one in ``folder``; the service database is empty."""
    sides = Databases(new_database(majors[0], Side.SHARED), new_database(majors[1], Side.SERVICE))
    scripts = ["awkward.sql", *(["awkward_contrib.sql"] if contrib else [])]
    for script in scripts:
        text = (HERE / script).read_text()
        run(sides.shared, text if majors[0] >= 15 else text.replace("NULLS NOT DISTINCT", ""))
    scaffold.init(folder)
    project = load_project(folder)
    tables = (*TABLES, CONTRIB) if contrib else TABLES
    with sides.shared.connect("test") as conn:
        made = scaffold.new_context(conn, project, "odd", tables, grants=[Grant(role="app", privileges=("select",))])
    return sides, load_context(project, "odd"), made.not_carried
