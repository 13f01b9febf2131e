"""At least forty corruptions, each planted on a live pair, found by the check that must find it, by its key.

The table of fault against check is printed and must be the one in the docs: ``CARVEOUT_WRITE_FAULTS=1`` writes it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import psycopg
import pytest

from contexts.databases import Databases
from contexts.embedded import Server
from contexts.model import Side
from tests.test_repo import ROOT
from tests.validations.tampering.faults import FAULTS, Fault
from tests.validations.tampering.vault import CHECKS, ROLE, Said, Vault, moving

PAGE = ROOT / "docs" / "what-checks-see.md"
BEGIN, END = "<!-- begin: written by the tampering test -->\n", "<!-- end -->\n"
WHERE = {"service": "service", "shared": "shared", "stream": "stream", "lost": "stream"}
PUBLICATION = "ALTER PUBLICATION carveout_vault {} TABLE vault.point"
_seen: dict[str, set[str]] = {}


@pytest.fixture(scope="module")
def role(servers: Callable[[int], Server]) -> Iterator[None]:
    """The application's role, dropped after the databases."""
    for major in (16, 18):
        with psycopg.connect(servers(major).url(), autocommit=True) as conn:
            conn.execute(f"CREATE ROLE {ROLE} LOGIN")
    yield
    for major in (16, 18):
        with psycopg.connect(servers(major).url(), autocommit=True) as conn:
            conn.execute(f"DROP ROLE {ROLE}")


@pytest.fixture(scope="module")
def vault(
    role: None, module_pair: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Vault]:  # fmt: skip
    with moving(tmp_path_factory.mktemp("vault"), module_pair) as made:
        yield made


@contextmanager
def planted(vault: Vault, fault: Fault) -> Iterator[None]:
    """The fault is there, and afterwards it is not."""
    side = Side.SERVICE if fault.where == "service" else Side.SHARED
    before, after = [], []
    if fault.where == "lost":
        before, after = [PUBLICATION.format("DROP")], [PUBLICATION.format("ADD")]
    with ExitStack() as stack:
        if side is Side.SERVICE and not fault.undo:
            stack.enter_context(vault.saved())
        for statements in (before, fault.how, after):
            vault.run(side, *statements)
        try:
            yield
        finally:
            for statements in (before, fault.undo, after):
                vault.run(side, *statements)


def found(vault: Vault, fault: Fault) -> Said:
    """What each check says of the fault."""
    with planted(vault, fault):
        said = vault.look()
    if "rules" in said:
        vault.look()  # forgets the rules that the undoing broke
    _seen[fault.name] = set(said)
    return said


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_found_by_its_check_and_key(vault: Vault, fault: Fault) -> None:
    said = found(vault, fault)
    if fault.check == "nothing":
        assert said == {}
    else:
        assert any(fault.key in one for one in said.get(fault.check, ())), said


def test_nothing_is_left_of_the_faults(vault: Vault) -> None:
    vault.look()  # forgets the rules that the undoing of faults broke
    assert vault.look() == {}


def test_the_table_of_faults_is_the_one_in_the_docs(vault: Vault) -> None:
    for fault in FAULTS:
        if fault.name not in _seen:  # another process has planted it, or nobody
            found(vault, fault)
    assert len(FAULTS) >= 40
    table = "\n".join(_table())
    print(f"\n{table}")
    before, _, rest = PAGE.read_text().partition(BEGIN)
    written, _, after = rest.partition(END)
    if os.environ.get("CARVEOUT_WRITE_FAULTS"):
        PAGE.write_text(f"{before}{BEGIN}{table}\n{END}{after}")
        return
    assert written == f"{table}\n", "look at what changed, then write it: CARVEOUT_WRITE_FAULTS=1"


def _table() -> Iterator[str]:
    yield f"| fault | planted | {' | '.join(CHECKS)} |"
    yield "|---|---|" + "---|" * len(CHECKS)
    for fault in FAULTS:
        marks = " | ".join("x" if check in _seen[fault.name] else " " for check in CHECKS)
        yield f"| {fault.name} | {WHERE[fault.where]} | {marks} |"
