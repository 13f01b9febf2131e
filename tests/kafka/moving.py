"""The small bank of the migrator's tests, with its stream through Kafka."""

from __future__ import annotations

from pathlib import Path

from cdc.kafka import connect, topic
from cdc.kafka.connect import Connect
from cdc.kafka.stack import Stack
from contexts.databases import Databases
from tests.migrator.moving import Bank, WorkerProcess
from tests.waiting import wait_until


def kafka_bank(
    folder: Path, pair: Databases, stack: Stack, *, prefix: str, accounts: int = 200, more: str = ""
) -> Bank:
    """A bank whose context says ``source = "kafka"``; ``prefix`` sets its topics apart from those of other tests.

    :param more: further lines of the section ``[kafka]``.
    """
    bank = Bank.create(folder, pair, accounts=accounts)
    file = folder / "contexts" / "bank" / "context.toml"
    section = f'[kafka]\nbootstrap = "${{BANK_KAFKA}}"\nconnect = "${{BANK_CONNECT}}"\ntopic_prefix = "{prefix}"\n'
    section += more
    file.write_text('source = "kafka"\n' + file.read_text() + section)
    bank.environment |= {"BANK_KAFKA": stack.bootstrap, "BANK_CONNECT": stack.connect_url}
    bank.expand_variables()
    return bank


def api(stack: Stack) -> Connect:
    """Connect's interface."""
    return Connect(stack.connect_url, timeout_s=90)


def left(stack: Stack, prefix: str) -> list[str]:
    """The connectors and topics whose names begin so."""
    names = [*connect.listed(api(stack)), *topic.listed(stack.bootstrap)]
    return sorted(name for name in names if name.startswith(f"{prefix}_"))


def have_stopped(bank: Bank, *workers: WorkerProcess) -> bool:
    """Whether all workers end before they have applied what is written now."""
    with bank.both.shared.connect("test") as conn:
        row = conn.execute("INSERT INTO bank.entry (account, amount) VALUES (1, 0) RETURNING id").fetchone()
    with bank.both.service.connect("test") as conn:

        def is_applied() -> bool:
            return conn.execute("SELECT FROM bank.entry WHERE id = %s", row).fetchone() is not None

        def have_ended() -> bool:
            return all(worker.process.poll() is not None for worker in workers)

        wait_until(lambda: have_ended() or is_applied(), bank.worker_log)
        return have_ended()
