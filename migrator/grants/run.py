"""``grants check``, ``sql`` and ``apply`` as functions, and what a switch asks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import psycopg
from psycopg import sql

from contexts.model import Side
from migrator.grants import trial
from migrator.grants.parity import Lack, lacks
from migrator.grants.rights import rights, roles
from migrator.grants.trial import Refusal
from migrator.run import Run


@dataclass(frozen=True, slots=True)
class Checked:
    """What the service side lacks, and what came of trying each role there."""

    roles: tuple[str, ...]
    lacks: tuple[Lack, ...]
    refusals: tuple[Refusal, ...]

    @property
    def blocking(self) -> list[str]:
        """What a cutover has to wait for."""
        return [str(lack) for lack in self.lacks if lack.blocks] + [
            str(refusal) for refusal in self.refusals if refusal.was_tried
        ]


def check(run: Run, *, try_roles: bool = True) -> Checked:
    """Compare the service side with the shared one; roles are tried where the service side is closed."""
    shared, service = (run.executor.connection(side) for side in Side)
    found = lacks(shared, service, run.context)
    tried = tuple(refusals(run, Side.SERVICE)) if try_roles and run.migration().open_side is Side.SHARED else ()
    # What the catalogs found already need not be said twice.
    named = {(lack.role, lack.object) for lack in found}
    fresh = tuple(r for r in tried if (r.role, f"table {r.table}") not in named)
    return Checked(tuple(sorted(roles(shared, run.context, run.tables(Side.SHARED)))), tuple(found), fresh)


def refusals(run: Run, side: Side) -> Iterator[Refusal]:
    """Try the roles on a closed side with what they may do on the shared side."""
    shared, conn = run.executor.connection(Side.SHARED), run.executor.connection(side)
    tables = run.tables(Side.SHARED)
    known = roles(shared, run.context, tables)
    there = {name for (name,) in conn.execute("SELECT rolname::text FROM pg_roles").fetchall()}
    if run.executor.dry:  # a read-only session cannot try to write
        return
    yield from trial.attempt(conn, rights(shared, set(known) & there, tables))


def apply(run: Run) -> Checked:
    """Grant what is missing to roles that exist; returns what is left, such as roles that somebody must make."""
    shared, service = (run.executor.connection(side) for side in Side)
    for lack in lacks(shared, service, run.context):
        if lack.right != "existence":
            run.executor.act(Side.SERVICE, lack.statement, partial(_grant, run, lack))
    return check(run)


def _grant(run: Run, lack: Lack) -> None:
    try:
        run.executor.write(Side.SERVICE, sql.SQL(lack.statement))
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedObject):
        return  # not ours to give, or a role that somebody has to make first: it is among what is left
