"""The main job without processes: the same functions as the command line's, the worker in a thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from contexts import scaffold
from contexts.databases import Databases
from contexts.loader import load_project
from contexts.model import TableName
from migrator.steps import prepare as preparing
from migrator.verify import Verification
from migrator.verify import verify as verify_both
from migrator.worker.worker import ContextWorker
from tests.migrator.driving import driver
from tests.migrator.moving import Bank, patient
from tests.waiting import PATIENCE_S


def project(folder: Path, pair: Databases, name: str, *tables: str, copy_by: str = "auto", options: str = "") -> Bank:
    """A project whose context is scaffolded from what stands in the shared database."""
    made = Bank(folder, pair, name)
    made.environment = {"CARVEOUT_SHARED_URL": pair.shared.url, f"{name.upper()}_DATABASE_URL": pair.service.url}
    made.expand_variables()
    scaffold.init(folder)
    with pair.shared.connect("test") as conn:
        scaffold.new_context(conn, load_project(folder), name, [TableName.parse(table) for table in tables])
    path = folder / "contexts" / name / "context.toml"
    declared = path.read_text()
    for table in tables:
        declared = declared.replace(f'name = "{table}"', f'name = "{table}"\ncopy_by = "{copy_by}"')
    path.write_text(f"{declared}\n[options]\n{patient(options)}\n")
    return made


def prepare(bank: Bank) -> None:
    """``carveout prepare --skip-check``."""
    with driver(bank) as run:
        preparing.prepare(run)


def verify(bank: Bank) -> Verification:
    """``carveout verify``."""
    return verify_both(bank.context, bank.both)


@contextmanager
def worker(bank: Bank) -> Iterator[None]:
    """``carveout worker`` in a thread; fails where it ended with an error."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            ContextWorker(bank.context, bank.both, stop, bank.folder / "spool").run()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work, name="worker")
    thread.start()
    try:
        yield
    except BaseException as error:
        if failures:  # the usual reason why a test waits in vain
            error.add_note(f"the worker had ended: {failures[0]!r}")
        raise
    finally:
        stop.set()
        thread.join(PATIENCE_S)
    assert not failures, failures
    assert not thread.is_alive()
