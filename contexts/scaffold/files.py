"""The text of the files that a new project or context starts with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from string import Template

from contexts.model import Context, Grant
from contexts.scaffold import statements
from contexts.scaffold.shape import CutReference, Shape

SUITES_README = (
    "Expectation suites of this context (`*.json`), as great-expectations writes them. `meta.carveout` says of which\n"
    "table, on which `sides`, and whether it `may_be_empty`. `carveout suites run` and `carveout verify` run them.\n"
)
INVARIANTS_README = (
    "SQL that must find no row (`*.sql`). The first lines say what it proves, its severity and the sides it runs on.\n"
    "With `-- kind: number` it answers one number instead, which must be the same on both sides.\n"
)


def project(contexts_dir: str) -> str:
    """``carveout.toml``."""
    return _template("carveout.toml").substitute(contexts_dir=_quoted(contexts_dir))


def context(declared: Context, cut: Sequence[CutReference]) -> str:
    """``context.toml``: what is not the default, and the foreign keys that the boundary cuts, as comments."""
    return _template("context.toml").substitute(
        name=_quoted(declared.name),
        tables="".join(f"\n[[tables]]\nname = {_quoted(str(table))}\n" for table in declared.table_names),
        url=_quoted(declared.service.url),
        grants="".join(map(_grant, declared.grants)) or _NO_GRANT,
        references=_references(cut),
    )


def revisions(declared: Context, shape: Shape) -> dict[Path, str]:
    """The files of ``schema/`` by path inside the context's folder."""
    later = statements.constraints(shape)
    first = {Path("schema/versions/0001_tables.py"): _revision(declared, "tables", statements.tables(shape))}
    second = Path("schema/versions/0002_indexes_and_constraints.py")
    return first | {second: _revision(declared, "constraints", later)}


_NO_GRANT = """
# What each service role may do, on whichever side is open:
# [[grants]]
# role = "a_service"
# privileges = ["select", "insert", "update"]
"""
_TITLES = {
    "tables": ("0001", "None", "Tables of the context {0}: what must be there before the first row is copied."),
    "constraints": (
        "0002",
        '"0001"',
        "Indexes and constraints of the context {0}: built when the rows are there, with the stream going on.",
    ),
}


def _revision(declared: Context, part: str, sql: Iterable[str]) -> str:
    number, before, title = _TITLES[part]
    body = "".join(map(_statement, sql)).replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    return _template("revision.py").substitute(
        title=title.format(declared.name), number=number, before=before, statements=body
    )


def _statement(statement: str) -> str:
    space = "\n" if statement.startswith("CREATE TABLE") else ""
    return f"{space}{statement};\n"


def _grant(grant: Grant) -> str:
    tables = f"tables = {json.dumps([str(t) for t in grant.tables], ensure_ascii=False)}\n" if grant.tables else ""
    return f"\n[[grants]]\nrole = {_quoted(grant.role)}\nprivileges = {json.dumps(grant.privileges)}\n{tables}"


def _references(cut: Sequence[CutReference]) -> str:
    if not cut:
        return ""
    intro = "\n# Foreign keys that the boundary cuts. No server checks them any more: declare what must still hold.\n"
    return intro + "\n".join(map(_reference, cut))


def _reference(cut: CutReference) -> str:
    lines = [
        "[[references]]",
        f"table = {_quoted(str(cut.table))}",
        f"columns = {json.dumps(cut.columns, ensure_ascii=False)}",
        f"references = {_quoted(str(cut.references))}",
        f"referenced_columns = {json.dumps(cut.referenced_columns, ensure_ascii=False)}",
    ]
    return "".join(f"# {line}\n" for line in lines)


def _quoted(text: str) -> str:
    """A TOML basic string: JSON's escapes are a subset of its own."""
    return json.dumps(text, ensure_ascii=False)


def _template(name: str) -> Template:
    return Template(resources.files("contexts.scaffold").joinpath(f"templates/{name}.txt").read_text(encoding="utf-8"))
