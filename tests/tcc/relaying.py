"""The services of a payment by messages, as processes: one that pays, and one that carries and handles messages."""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import psycopg

from cdc.events import Insert, Transaction
from cdc.outbox.events import Router
from cdc.source.embedded import EmbeddedSource
from cdc.source.slots import slot_status
from cdc.state.position import Position
from contexts.databases import Database
from contexts.model import Side
from contexts.outbox import Outbox as Declared
from migrator.messaging.consuming import settle
from migrator.messaging.inbox import Handler, Inbox, Message
from migrator.messaging.outbox import Outbox
from migrator.tcc.barrier import Barrier
from migrator.tcc.coordinator import Cancelled, Coordinator, Participant
from migrator.tcc.messages import REPLIES, Answered, Confirming
from migrator.tcc.payment import HistoryBranch, WalletBranch
from tests.tcc.service import call

SLOT = {"wallet": "tcc_wallet", "history": "tcc_history"}
TOPIC = "outbox.event."
Routes = Mapping[str, tuple[Inbox, Handler]]


def branches(wallet: str, history: str) -> tuple[WalletBranch, HistoryBranch]:
    return (
        WalletBranch(lambda: psycopg.connect(wallet), Barrier("wallet", "wallet")),
        HistoryBranch(lambda: psycopg.connect(history), Barrier("history", "history")),
    )


def coordinator(wallet: str, history: str, *, limit_s: float = 10.0, grace_s: float = 30.0) -> Coordinator:
    """As in ``tests.tcc.service``, but for the messages."""
    participants: dict[str, Participant] = dict(zip(("wallet", "history"), branches(wallet, history), strict=True))
    return Coordinator(
        lambda: psycopg.connect(wallet), "wallet", participants, limit_s=limit_s, outbox=Outbox("wallet"),
        grace_s=grace_s,
    )  # fmt: skip


def routes(wallet: str, history: str) -> Routes:
    """Who handles which topic."""
    of_wallet, of_history = branches(wallet, history)
    paying = coordinator(wallet, history)
    return {
        f"{TOPIC}tcc.wallet": (
            Inbox(lambda: psycopg.connect(wallet), "wallet", "branch"),
            Confirming("wallet", of_wallet, Outbox("wallet")),
        ),
        f"{TOPIC}tcc.history": (
            Inbox(lambda: psycopg.connect(history), "history", "branch"),
            Confirming("history", of_history, Outbox("history")),
        ),
        f"{TOPIC}{REPLIES}": (Inbox(lambda: psycopg.connect(wallet), "wallet", "coordinator"), Answered(paying)),
    }


def carry(url: str, schema: str, found: Routes, stop: threading.Event) -> None:
    """From a service's log to the inboxes; a message that was handled and not acknowledged comes again."""
    database = Database(Side.SHARED, url)
    declared = Declared(table=f"{schema}.outbox")  # type: ignore[arg-type]
    source = EmbeddedSource(
        database, SLOT[schema], _position(database, SLOT[schema]), spool_dir=Path(tempfile.gettempdir()),
        memory_bytes=1 << 24,
    )  # fmt: skip
    try:
        while not stop.is_set():
            event = source.poll(0.2)
            if not isinstance(event, Transaction):
                continue
            for change in event.changes:
                if isinstance(change, Insert):
                    router = Router(declared, change.relation, {})
                    _deliver(router, change, event.commit_time_us, found, stop)
            source.acknowledge(event.end_lsn)
    finally:
        source.close()


def _deliver(router: Router, change: Insert, at: int, found: Routes, stop: threading.Event) -> None:
    made = router.event(change, at)
    headers = {name: text for name, text in made.headers if text is not None}
    inbox, handler = found[made.topic]
    settle(inbox, Message(made.event_id, made.topic, made.key, made.payload, headers), handler, stop)


def _position(database: Database, slot: str) -> Position:
    with database.connect("test") as conn:
        row = conn.execute(
            "SELECT system_identifier::text, timeline_id FROM pg_control_system(), pg_control_checkpoint()"
        ).fetchone()
        at = slot_status(conn, slot).confirmed_flush_lsn
    assert row is not None
    assert at is not None
    return Position(row[0], row[1], slot, at)


def carrying(wallet: str, history: str, stop: threading.Event) -> list[threading.Thread]:
    """Begin to carry both ways."""
    found = routes(wallet, history)
    threads = [
        threading.Thread(target=carry, args=(url, schema, found, stop), name=f"carry-{schema}")
        for url, schema in ((wallet, "wallet"), (history, "history"))
    ]
    for thread in threads:
        thread.start()
    return threads


def pay(wallet: str, history: str, payments: int) -> None:
    """Print the id of every payment that is decided to be confirmed."""
    paying = coordinator(wallet, history, limit_s=2.0)
    for number in range(payments):
        try:
            print(paying.run(call(2 + number % 5, 8 + number % 5, "1.00" if number % 3 else "99999999.00")), flush=True)
        except Cancelled:
            print("cancelled", flush=True)


def main(what: str, wallet: str, history: str, payments: str = "0") -> None:
    run: dict[str, Callable[[], object]] = {
        "pay": lambda: pay(wallet, history, int(payments)),
        "carry": lambda: carrying(wallet, history, threading.Event()),  # whose threads keep the process alive
    }
    run[what]()


if __name__ == "__main__":
    main(*sys.argv[1:])
