"""What roles lack on the service side, each with the statement that gives it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from psycopg import sql

from contexts.catalog import Table, read_tables
from contexts.databases import Connection
from contexts.model import Context, TableName
from migrator.grants.rights import PUBLIC, SQL, Known, Right, members, rights, roles
from validations.parity.sequences import Place, read_sequences
from validations.parity.sequences import Sequence as Counter

_READING = {"SELECT", "REFERENCES", "TRIGGER"}


@dataclass(frozen=True, slots=True)
class Lack:
    """Something that a role has on the shared side, or is declared to have, and has not on the service side."""

    role: str
    #: What it is about: ``table wallet.accounts``, ``schema wallet``, ``role teller``, ...
    object: str
    right: str
    #: Runs as it is on the service side.
    statement: str
    #: How the role is known: ``declared``, ``catalog``, ``used``.
    sources: tuple[str, ...]
    #: Whether a cutover has to wait for it.
    blocks: bool

    def __str__(self) -> str:
        return f"role {self.role} lacks {self.right} on {self.object} ({'; '.join(self.sources)}): {self.statement}"


def lacks(shared: Connection, service: Connection, context: Context) -> list[Lack]:
    """Compare both sides. The order of the statements is the order in which they can be run."""
    ours = list(read_tables(shared, context.table_names).values())
    theirs = read_tables(service, context.table_names)
    known = roles(shared, context, ours)
    joined = members(shared, known)
    origins = {**_through(joined, known), **known}
    everybody = origins.keys() - {PUBLIC}
    there = _attributes(service, everybody)
    found = list(_missing_roles(_attributes(shared, everybody), there, origins))
    found += _missing_memberships(service, joined, origins)
    if theirs:
        wanted = rights(shared, known, [t for t in ours if t.name in theirs]) | _declared(context)
        has = rights(service, [*known, PUBLIC], theirs.values())
        found += _missing_rights(service, context, _reduced(wanted, has), known)
        found += _row_security(service, list(theirs.values()), _attributes(shared, everybody), there, origins)
    return [*found, *_default_privileges(shared, service, context)]


def _through(joined: Iterable[tuple[str, str]], known: dict[str, Known]) -> dict[str, Known]:
    """Members are as sure as the role whose rights they have."""
    found: dict[str, Known] = {}
    for role, member in joined:
        origin = known.get(role) or found.get(role) or Known(role, set())
        needs = origin.writes or origin.is_sure
        found.setdefault(member, Known(member, set())).sources.add(f"member of {role}")
        found[member].writes = found[member].writes or needs
    return found


def _declared(context: Context) -> set[Right]:
    found: set[Right] = set()
    for grant in context.grants:
        found.add(Right(grant.role, "database", "", "", "", "CONNECT"))
        for table in grant.tables or context.table_names:
            found.add(Right(grant.role, "schema", "", table.schema, "", "USAGE"))
            found |= {Right(grant.role, "table", *table, "", privilege.upper()) for privilege in grant.privileges}
    return found


def _reduced(wanted: set[Right], has: set[Right]) -> list[Right]:
    """What is missing, without what another statement gives: a table's right covers its columns, PUBLIC's everybody.

    A role that is still to be made has PUBLIC's rights as soon as it is there.
    """
    missing = wanted - has
    tables = {(r.role, r.schema, r.name, r.privilege) for r in missing if r.kind == "table"}
    public = {r._replace(role="") for r in missing | has if r.role == PUBLIC}
    return sorted(
        r
        for r in missing
        if not (r.kind == "column" and (r.role, r.schema, r.name, r.privilege) in tables)
        and not (r.role != PUBLIC and r._replace(role="") in public)
    )


def _missing_roles(
    here: dict[str, tuple[bool, bool]], there: dict[str, tuple[bool, bool]], known: dict[str, Known]
) -> Iterator[Lack]:
    for name in sorted(here.keys() - there.keys() | (known.keys() - there.keys() - {PUBLIC})):
        login = sql.SQL("LOGIN" if here.get(name, (True, False))[0] else "NOLOGIN")
        statement = sql.SQL("CREATE ROLE {} {};").format(sql.Identifier(name), login).as_string()
        yield _lack(known.get(name), name, f"role {name}", "existence", statement)


def _missing_memberships(service: Connection, joined: list[tuple[str, str]], known: dict[str, Known]) -> Iterator[Lack]:
    names = {"roles": [role for role, _ in joined], "members": [member for _, member in joined]}
    there = set(service.execute(SQL["memberships"], names).fetchall())
    for role, member in joined:
        if (role, member) not in there:
            statement = sql.SQL("GRANT {} TO {};").format(sql.Identifier(role), sql.Identifier(member)).as_string()
            yield _lack(known.get(role), member, f"role {role}", "membership", statement)


def _missing_rights(
    service: Connection, context: Context, missing: Iterable[Right], known: dict[str, Known]
) -> Iterator[Lack]:
    """One statement for all that a role lacks on an object."""
    sequences = read_sequences(service, list(read_tables(service, context.table_names)))
    functions = set(service.execute(SQL["functions_here"], {"schemas": [r.schema for r in missing]}).fetchall())
    lacking: dict[Right, list[str]] = defaultdict(list)
    for right in missing:
        lacking[right._replace(privilege="")].append(right.privilege)
    for about, privileges in lacking.items():
        if about.kind == "sequence" and (TableName(about.schema, about.name), about.column) not in sequences:
            continue
        if about.kind == "function" and (about.schema, about.name) not in functions:
            continue
        on = _object(service, about, sequences)
        target = sql.SQL(PUBLIC) if about.role == PUBLIC else sql.Identifier(about.role)
        words = ", ".join(sorted(privileges))
        columns = f" ({sql.Identifier(about.column).as_string()})" if about.kind == "column" else ""
        given = ", ".join(f"{privilege}{columns}" for privilege in sorted(privileges))
        statement = f"GRANT {given} ON {on} TO {target.as_string()};"
        writes = about.kind not in ("table", "column") or bool(set(privileges) - _READING)
        harmless = set(privileges) <= {"REFERENCES", "TRIGGER"}
        yield _lack(
            known[about.role], about.role, _shown(about, on), words, statement, writes=writes, harmless=harmless
        )


def _object(service: Connection, about: Right, sequences: dict[Place, Counter]) -> str:
    quoted = sql.Identifier(about.schema, about.name).as_string() if about.schema else ""
    match about.kind:
        case "database":
            return f"DATABASE {sql.Identifier(service.info.dbname).as_string()}"
        case "schema":
            return f"SCHEMA {sql.Identifier(about.name).as_string()}"
        case "sequence":
            sequence = sequences[TableName(about.schema, about.name), about.column]
            return f"SEQUENCE {sql.Identifier(*sequence.name).as_string()}"
        case "function":
            name, _, arguments = about.name.partition("(")
            return f"FUNCTION {sql.Identifier(about.schema, name).as_string()}({arguments}"
        case _:
            return quoted


def _shown(about: Right, on: str) -> str:
    if about.kind in ("table", "column"):
        table = str(TableName(about.schema, about.name))
        return f"column {about.column} of {table}" if about.kind == "column" else f"table {table}"
    kind, _, rest = on.partition(" ")
    return f"{kind.lower()} {rest.replace(chr(34), '')}"


def _row_security(
    service: Connection, tables: Sequence[Table], here: dict[str, tuple[bool, bool]],
    there: dict[str, tuple[bool, bool]], known: dict[str, Known],
) -> Iterator[Lack]:  # fmt: skip
    """Who reads all rows here must not read a part of them there."""
    if not service.execute(SQL["row_security"], {"tables": [table.oid for table in tables]}).fetchall()[0][0]:
        return
    for name, (_, bypasses) in sorted(here.items()):
        if bypasses and not there.get(name, (False, False))[1]:
            statement = sql.SQL("ALTER ROLE {} BYPASSRLS;").format(sql.Identifier(name)).as_string()
            yield _lack(known.get(name), name, "row security of the tables", "BYPASSRLS", statement)


def _default_privileges(shared: Connection, service: Connection, context: Context) -> Iterator[Lack]:
    schemas = {"schemas": sorted({table.schema for table in context.table_names})}
    here, there = (set(conn.execute(SQL["default_privileges"], schemas).fetchall()) for conn in (shared, service))
    for owner, schema, kind, role, privilege in sorted(here - there):
        what = "TABLES" if kind == "r" else "SEQUENCES"
        inside = sql.SQL(" IN SCHEMA {}").format(sql.Identifier(schema)) if schema else sql.SQL("")
        target = sql.SQL(PUBLIC) if role == PUBLIC else sql.Identifier(role)
        statement = sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {}{} GRANT {} ON {} TO {};").format(
            sql.Identifier(owner), inside, sql.SQL(privilege), sql.SQL(what), target
        )
        about = f"later {what.lower()} of {owner}{f' in schema {schema}' if schema else ''}"
        yield Lack(role, about, privilege, statement.as_string(), ("default privileges",), blocks=False)


def _attributes(conn: Connection, names: Iterable[str]) -> dict[str, tuple[bool, bool]]:
    rows = conn.execute(SQL["attributes"], {"roles": list(names)}).fetchall()
    return {name: (login, bypasses) for name, login, bypasses, _ in rows}


def _lack(
    role: Known | None,
    name: str,
    about: str,
    right: str,
    statement: str,
    *,
    writes: bool = True,
    harmless: bool = False,
) -> Lack:
    """A role that was declared or seen at work is waited for; one that only holds rights, where it may write.

    A reader left behind goes on reading the closed side, which stays fresh.
    """
    sources = tuple(sorted(role.sources)) if role else ()
    blocks = role is not None and not harmless and (role.is_sure or (role.writes and writes))
    return Lack(name, about, right, statement, sources, blocks)
