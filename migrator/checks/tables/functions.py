"""Functions and procedures of the shared database that mention a moved table: after the switch they meet a closed one.

Found by dependency where PostgreSQL records one, and by the table's name in the text otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from psycopg import sql

from contexts import sqlfiles
from contexts.model import Side
from migrator.checks.environment import Environment
from migrator.checks.model import Finding, statement, warning

_SQL = sqlfiles.load("migrator.checks.tables", "functions.sql")


def check(environment: Environment) -> Iterator[Finding]:
    tables = environment.tables(Side.SHARED)
    parameters = {
        "tables": [table.oid for table in tables.values()],
        "names": [str(name) for name in tables],
        "patterns": [rf"(?<![[:alnum:]_$]){re.escape(name.name)}(?![[:alnum:]_$])" for name in tables],
    }
    for function, mentioned in environment.rows(Side.SHARED, _SQL["mentioning"], parameters):
        message = f"mentions {', '.join(mentioned)}: its reads stay fresh after the switch, its writes are refused"
        fix = "-- look at it, and move it or its callers to the service:\n"
        fix += statement("SELECT pg_catalog.pg_get_functiondef({}::pg_catalog.regprocedure)", sql.Literal(function))
        yield warning(Side.SHARED, f"function {function}", message, fix)
