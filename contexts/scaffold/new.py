"""Makes a project and its contexts: files only, and never over a file that is there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from contexts import catalog
from contexts.databases import Connection
from contexts.errors import ConfigError, RefusedError
from contexts.loader import CONTEXT_FILE, PROJECT_FILE, load_contexts
from contexts.model import Context, Grant, Project, Service, Table, TableName
from contexts.scaffold import files, reader
from contexts.scaffold.left_behind import NotCarried, not_carried
from contexts.scaffold.suites import suites


@dataclass(frozen=True)
class NewContext:
    """The files of a context that was made, or, in a dry run, would be."""

    folder: Path
    files: Mapping[Path, str]
    not_carried: tuple[NotCarried, ...]


def init(folder: Path, contexts_dir: str = "contexts") -> Path:
    """Write ``carveout.toml`` into ``folder`` and make the folder of the contexts.

    :raises RefusedError: the file is there already.
    """
    path = folder / PROJECT_FILE
    _write({path: files.project(contexts_dir)})
    (folder / contexts_dir).mkdir(parents=True, exist_ok=True)
    return path


def new_context(
    conn: Connection, project: Project, name: str, tables: Iterable[TableName], *, grants: Iterable[Grant] = (),
    url_env: str = "", dry_run: bool = False,
) -> NewContext:  # fmt: skip
    """Write ``contexts/<name>/`` from the catalogs of the shared database that ``conn`` is connected to.

    :param url_env: the variable that holds the service database's URL; ``<NAME>_DATABASE_URL`` where empty.
    :raises ConfigError: the name cannot be used, a table is not there or belongs to another context.
    :raises RefusedError: the context's folder is there already.
    """
    made = _declare(name, tuple(tables), tuple(grants), url_env or f"{name.upper()}_DATABASE_URL")
    folder = project.folder / project.contexts_dir / name
    _refuse_conflicts(conn, project, made, folder)
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        content = render(conn, made)
        left = not_carried(conn, made.table_names)
    if not dry_run:
        _write({folder / path: text for path, text in content.items()})
    return NewContext(folder, content, tuple(left))


def render(conn: Connection, declared: Context) -> dict[Path, str]:
    """The files of a context by path inside its folder, from the catalogs that ``conn`` reads."""
    cut = reader.cut_references(conn, reader.table_oids(conn, declared.table_names))
    return {
        Path(CONTEXT_FILE): files.context(declared, cut),
        **files.revisions(declared, reader.read_shape(conn, declared.table_names)),
        Path("suites/README.md"): files.SUITES_README,
        **{Path("suites") / name: text for name, text in suites(conn, declared.table_names).items()},
        Path("invariants/README.md"): files.INVARIANTS_README,
    }


def _declare(name: str, tables: tuple[TableName, ...], grants: tuple[Grant, ...], variable: str) -> Context:
    try:
        return Context(
            name=name,
            tables=tuple(Table(name=table) for table in tables),
            service=Service(url=f"${{{variable}}}"),
            grants=grants,
        )
    except ValidationError as error:
        problems = "; ".join(problem["msg"].removeprefix("Value error, ") for problem in error.errors())
        raise ConfigError(f"context {name!r}: {problems}", unchanged="no file was written") from error


def _refuse_conflicts(conn: Connection, project: Project, made: Context, folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()):
        raise RefusedError(
            f"{folder}: is there already",
            unchanged="no file was written",
            next_step=f"edit {folder / CONTEXT_FILE}, or remove the folder",
        )
    owners = {table: other.name for other in load_contexts(project).values() for table in other.table_names}
    if taken := [f"{table} ({owners[table]})" for table in made.table_names if table in owners]:
        raise ConfigError(
            f"context {made.name!r}: tables that belong to other contexts: {', '.join(taken)}",
            unchanged="no file was written",
            next_step="leave each table to one context",
        )
    there = catalog.read_tables(conn, made.table_names)
    if missing := [str(table) for table in made.table_names if table not in there]:
        raise ConfigError(
            f"context {made.name!r}: no such tables in the shared database: {', '.join(missing)}",
            unchanged="no file was written",
            next_step="name ordinary or partitioned tables as schema.table; views and foreign tables do not move",
        )


def _write(content: Mapping[Path, str]) -> None:
    """Write new files, all or none of them where one is there already."""
    for path in content:
        if path.exists():
            raise RefusedError(f"{path}: is there already", unchanged="no file was written", next_step="edit that file")
    for path, text in content.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
