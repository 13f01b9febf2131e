"""The gate as applications use it: psycopg and SQLAlchemy, threads, pools and isolation levels, on real servers."""

from __future__ import annotations

import os
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import psycopg
import pytest
from psycopg.rows import dict_row
from sqlalchemy import Engine, NullPool, QueuePool, event, text
from sqlalchemy import exc as sa
from sqlalchemy.orm import Session

from contexts.databases import Database, Databases
from contexts.model import Side
from migrator import sides
from migrator.control.switches import Outcome, Switch
from migrator.executor import Live
from migrator.run import Run
from migrator.shims import link
from migrator.shims.direct import GatedConnections
from migrator.shims.engine import NotGated, gated_engine
from migrator.shims.gate import GateClosed
from migrator.shims.link import Links
from migrator.shims.question import Question
from migrator.sides import gate, route, writelock
from migrator.steps import preparation
from migrator.switch import settle
from tests.migrator.moving import TABLES_SQL, Bank
from tests.test_repo import ROOT
from tests.waiting import wait_until

WHERE = "SELECT current_database()"


class Switchable:
    """Two databases with a gate and a route, switched as the procedure does it."""

    def __init__(self, both: Databases) -> None:
        self.both = both
        self.epoch = 1

    def prepare(self) -> None:
        with self.executor() as executor:
            for side in Side:
                gate.create(executor, side, "bank")
                route.write(executor, side, "bank", Side.SHARED, self.epoch)

    def tell(self, *told: Side, open_side: Side) -> None:
        self.epoch += 1
        with self.executor() as executor:
            for side in told:
                route.write(executor, side, "bank", open_side, self.epoch)

    def drop(self) -> None:
        with self.executor() as executor:
            for side in Side:
                gate.drop(executor, side, "bank")
                route.forget(executor, side, "bank")

    @contextmanager
    def closed(self, side: Side) -> Iterator[None]:
        with gate.closed_gate(self.both[side], "bank", lock_timeout_ms=5000, deadline=0):
            yield

    @contextmanager
    def executor(self) -> Iterator[Live]:
        live = Live(self.both, "test")
        try:
            yield live
        finally:
            live.close()

    def name(self, side: Side) -> str:
        return self.both[side].url.rpartition("/")[2].partition("?")[0]

    def waiting(self, side: Side) -> int:
        """How many sessions wait for the gate."""
        with self.both[side].connect("test") as conn:
            row = conn.execute(
                "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'carveout.gate_bank'::regclass"
            ).fetchone()
        assert row is not None
        return int(row[0])


@pytest.fixture(scope="module")
def both(module_pair: Databases) -> Databases:
    """One pair for most tests here: they change nothing but gate and route."""
    for side in Side:
        sides.install(module_pair[side])
    return module_pair


@pytest.fixture
def unprepared(both: Databases) -> Iterator[Switchable]:
    made = Switchable(both)
    yield made
    made.drop()


@pytest.fixture
def switchable(unprepared: Switchable) -> Switchable:
    unprepared.prepare()
    return unprepared


def urls(both: Databases) -> dict[Side, str]:
    return {side: both[side].url for side in Side}


def direct(
    both: Databases, *, wait_limit_s: float = 20.0, isolation: psycopg.IsolationLevel | None = None, **settings: Any
) -> GatedConnections:
    def connect(side: Side) -> psycopg.Connection[Any]:
        conn = psycopg.connect(both[side].url, **settings)
        conn.isolation_level = isolation
        return conn

    return GatedConnections("bank", {side: partial(connect, side) for side in Side}, wait_limit_s=wait_limit_s)


@pytest.fixture
def engines() -> Iterator[Callable[..., Engine]]:
    with ExitStack() as stack:

        def make(both: Databases, **options: Any) -> Engine:
            made = gated_engine("bank", urls(both), **{"wait_limit_s": 20.0, **options})
            stack.callback(made.dispose)
            return made

        yield make


def where(engine: Engine) -> str:
    with engine.begin() as conn:
        return str(conn.execute(text(WHERE)).scalar_one())


def where_direct(connections: GatedConnections) -> str:
    with connections.transaction() as conn:
        row = conn.execute(WHERE).fetchone()
    assert row is not None
    return str(row[0] if isinstance(row, tuple) else row["current_database"])


@pytest.mark.parametrize("isolation", [None, *psycopg.IsolationLevel])
@pytest.mark.parametrize("autocommit", [False, True])
def test_psycopg_holds_the_gate_to_the_end_of_the_transaction(
    switchable: Switchable, autocommit: bool, isolation: psycopg.IsolationLevel | None
) -> None:
    gated = direct(switchable.both, isolation=isolation, autocommit=autocommit, row_factory=dict_row)
    with gated.transaction() as conn:
        with switchable.both.shared.connect("test") as other:
            held = other.execute("SELECT count(*) FROM pg_locks WHERE relation = 'carveout.gate_bank'::regclass")
            assert held.fetchone() == (1,)
        assert conn.execute("SHOW lock_timeout").fetchone() == {"lock_timeout": "0"}
        level = conn.execute("SHOW transaction_isolation").fetchone()
        assert level == {"transaction_isolation": (isolation.name if isolation else "READ COMMITTED")
                         .lower().replace("_", " ")}  # fmt: skip
    switchable.tell(*Side, open_side=Side.SERVICE)
    assert where_direct(gated) == switchable.name(Side.SERVICE)
    gated.close()


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
@pytest.mark.parametrize(("kind", "asked"), [("psycopg", 1), *(("sqlalchemy", asked) for asked in (1, 2, 3))])
def test_all_threads_that_wait_at_the_gate_go_to_the_side_that_opens(
    switchable: Switchable, engines: Callable[..., Engine], kind: str, asked: int, isolation: str
) -> None:
    """The first to learn of the new side must not make the others believe that they are there already."""
    if kind == "psycopg":
        gated = direct(switchable.both, isolation=psycopg.IsolationLevel[isolation.replace(" ", "_")])
        call = partial(where_direct, gated)
    else:
        call = partial(where, engines(switchable.both, isolation_level=isolation))
    threads = 5
    ready, go = threading.Barrier(threads + 1), threading.Event()

    def work() -> tuple[str, str]:
        (before,) = {call() for _ in range(asked)}  # by which the connection asks in another way
        ready.wait(30)
        go.wait(30)
        return before, call()

    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(work) for _ in range(threads)]
        ready.wait(30)
        with switchable.closed(Side.SHARED):
            go.set()
            wait_until(lambda: switchable.waiting(Side.SHARED) == threads)
            switchable.tell(*Side, open_side=Side.SERVICE)
        ends = {future.result(30) for future in futures}
    assert ends == {(switchable.name(Side.SHARED), switchable.name(Side.SERVICE))}


def test_a_session_that_lost_what_it_had_prepared_asks_all_the_same(
    switchable: Switchable, engines: Callable[..., Engine]
) -> None:
    engine = engines(switchable.both, pool_size=1)

    def prepared() -> list[str]:
        with engine.begin() as conn:
            return list(
                conn.execute(text("SELECT name FROM pg_prepared_statements WHERE name ~ '^carveout'")).scalars()
            )

    assert [len(prepared()) for _ in range(3)] == [0, 1, 1]
    with engine.begin() as conn:
        conn.exec_driver_sql("DEALLOCATE ALL")  # as psycopg does after ROLLBACK TO
    assert {where(engine) for _ in range(3)} == {switchable.name(Side.SHARED)}
    link._known.clear()  # as another client of a pooler, which meets what this one has prepared
    with engine.begin() as conn:
        conn.exec_driver_sql(f"PREPARE {Question(['bank'], 20.0)._name} AS SELECT 1")
    assert {where(engine) for _ in range(3)} == {switchable.name(Side.SHARED)}
    switchable.tell(*Side, open_side=Side.SERVICE)
    assert where(engine) == switchable.name(Side.SERVICE)


def test_who_prepares_nothing_is_not_made_to(switchable: Switchable, engines: Callable[..., Engine]) -> None:
    engine = engines(switchable.both, pool_size=1, connect_args={"prepare_threshold": None})
    for _ in range(4):
        with engine.begin() as conn:
            assert conn.execute(text("SELECT count(*) FROM pg_prepared_statements")).scalar_one() == 0


def test_each_thread_finds_its_own_side(switchable: Switchable) -> None:
    """Two sessions opened on the shared side: one learns of the switch, the other is still where it was."""
    gated, before, done = direct(switchable.both), threading.Event(), threading.Event()

    def other() -> str:
        where_direct(gated)
        before.set()
        done.wait(30)
        return where_direct(gated)

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(other)
        before.wait(30)
        switchable.tell(*Side, open_side=Side.SERVICE)
        assert where_direct(gated) == switchable.name(Side.SERVICE)
        done.set()
        assert future.result(30) == switchable.name(Side.SERVICE)


@pytest.mark.parametrize(
    "options", [{"poolclass": NullPool}, {"pool_pre_ping": True}, {"poolclass": QueuePool, "pool_size": 2}], ids=str
)
def test_sqlalchemy_pools_follow_there_and_back(
    switchable: Switchable, engines: Callable[..., Engine], options: dict[str, Any]
) -> None:
    engine = engines(switchable.both, **options)
    with engine.connect() as one, engine.connect() as two:  # two connections for the pool
        assert {conn.execute(text(WHERE)).scalar_one() for conn in (one, two)} == {switchable.name(Side.SHARED)}
    for side in (Side.SERVICE, Side.SHARED):
        switchable.tell(*Side, open_side=side)
        assert [where(engine) for _ in range(3)] == [switchable.name(side)] * 3


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_sqlalchemy_keeps_the_isolation_level_across_the_switch(
    switchable: Switchable, engines: Callable[..., Engine], isolation: Any
) -> None:
    engine = engines(switchable.both)
    with engine.connect().execution_options(isolation_level=isolation, postgresql_readonly=True) as conn:
        for side in (Side.SHARED, Side.SERVICE, Side.SHARED):
            switchable.tell(*Side, open_side=side)
            with conn.begin():  # the same Connection before and after
                assert conn.execute(text(WHERE)).scalar_one() == switchable.name(side)
                assert conn.execute(text("SHOW transaction_isolation")).scalar_one() == isolation.lower()
                assert conn.execute(text("SHOW transaction_read_only")).scalar_one() == "on"
    with engine.begin() as conn:
        assert conn.execute(text("SHOW transaction_read_only")).scalar_one() == "off"


def test_a_forked_process_leaves_the_connections_of_its_parent_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [Mock(closed=False) for _ in range(2)]
    links = Links(iter(made).__next__)
    links.give_back(links.take())
    assert links.take() is made[0]
    links.give_back(made[0])
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert links.take() is made[1]
    links.close()
    made[0].close.assert_not_called()


def test_an_engine_with_other_options_passes_the_gate_too(
    switchable: Switchable, engines: Callable[..., Engine]
) -> None:
    engine = (
        engines(switchable.both)
        .execution_options(isolation_level="SERIALIZABLE")
        .execution_options(stream_results=True)
    )
    assert where(engine) == switchable.name(Side.SHARED)
    with engine.begin(), switchable.both.shared.connect("test") as other:
        held = other.execute("SELECT count(*) FROM pg_locks WHERE relation = 'carveout.gate_bank'::regclass")
        assert held.fetchone() == (1,)
    switchable.tell(*Side, open_side=Side.SERVICE)
    assert where(engine) == switchable.name(Side.SERVICE)


def test_a_connection_that_somebody_else_has_made_is_refused(
    switchable: Switchable, engines: Callable[..., Engine]
) -> None:
    """Nobody knows which side it leads to."""
    engine = engines(switchable.both)
    event.listen(engine, "do_connect", lambda *_: psycopg.connect(switchable.both.service.url))
    with pytest.raises(NotGated, match="made past it"), engine.begin():
        pass


def test_the_events_of_the_application_are_its_own(switchable: Switchable, engines: Callable[..., Engine]) -> None:
    """And so is what connects: it may give a password that has just been made."""
    engine, heard = engines(switchable.both), []
    event.listen(engine, "begin", lambda _: heard.append("begin"))
    event.listen(engine, "commit", lambda _: heard.append("commit"))
    event.listen(engine, "do_connect", lambda _dialect, _record, _args, named: named.update(application_name="till"))
    with engine.begin() as conn:
        assert conn.execute(text("SHOW application_name")).scalar_one() == "till"
    assert heard == ["begin", "commit"]


def test_sqlalchemy_refuses_what_cannot_hold_the_gate(switchable: Switchable, engines: Callable[..., Engine]) -> None:
    engine = engines(switchable.both)
    with (
        engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn,
        pytest.raises(NotGated, match="AUTOCOMMIT"),
    ):
        conn.execute(text("SELECT 1"))
    with engine.connect() as conn, pytest.raises(NotGated, match="two-phase"):
        conn.begin_twophase()
    assert where(engine) == switchable.name(Side.SHARED)


def test_urls_and_connect_arguments_of_sqlalchemy_work(switchable: Switchable, engines: Callable[..., Engine]) -> None:
    named = {side: switchable.both[side].url.replace("postgresql:", "postgresql+psycopg:") for side in Side}
    engine = gated_engine("bank", named, connect_args={"application_name": "till"})
    with engine.begin() as conn:
        assert conn.execute(text("SHOW application_name")).scalar_one() == "till"
    engine.dispose()


@pytest.mark.parametrize("kind", ["psycopg", "sqlalchemy"])
def test_past_the_limit_the_gate_is_closed_and_the_next_transaction_is_well(
    switchable: Switchable, engines: Callable[..., Engine], kind: str
) -> None:
    call = caller(switchable.both, engines, kind, wait_limit_s=0.2)
    with switchable.closed(Side.SHARED), pytest.raises(GateClosed, match=r"closed for 0.2 s") as caught:
        call()
    assert caught.value.transient
    assert call() == switchable.name(Side.SHARED)


@pytest.mark.parametrize("kind", ["psycopg", "sqlalchemy"])
def test_a_statement_timeout_of_the_application_reads_as_a_closed_gate(
    switchable: Switchable, engines: Callable[..., Engine], kind: str
) -> None:
    call = caller(switchable.both, engines, kind, statement_timeout_ms=200)
    with switchable.closed(Side.SHARED), pytest.raises(GateClosed, match="statement_timeout"):
        call()
    assert call() == switchable.name(Side.SHARED)


@pytest.mark.parametrize("kind", ["psycopg", "sqlalchemy"])
def test_before_prepare_and_after_abort_the_shared_side_has_everything(
    unprepared: Switchable, engines: Callable[..., Engine], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("migrator.shims.gate.ABSENT_S", 0.1)
    call = caller(unprepared.both, engines, kind)
    assert call() == unprepared.name(Side.SHARED)
    unprepared.prepare()
    assert call() == unprepared.name(Side.SHARED)
    unprepared.tell(*Side, open_side=Side.SERVICE)
    wait_until(lambda: call() == unprepared.name(Side.SERVICE))
    # A process that was quiet while the context was rolled back and the migration aborted still believes the service
    # side to be open. There is neither gate nor write lock there any more: it must go to the shared side.
    unprepared.drop()
    assert call() == unprepared.name(Side.SHARED)


@pytest.mark.parametrize("kind", ["psycopg", "sqlalchemy"])
def test_sides_that_name_each_other_end_at_the_limit(
    switchable: Switchable, engines: Callable[..., Engine], kind: str
) -> None:
    """A switch whose driver died between its two routes, until ``resume``."""
    call = caller(switchable.both, engines, kind, wait_limit_s=0.5)
    switchable.tell(Side.SHARED, open_side=Side.SERVICE)
    with pytest.raises(GateClosed, match="no side has let"):
        call()
    switchable.tell(Side.SERVICE, open_side=Side.SERVICE)
    assert call() == switchable.name(Side.SERVICE)


@pytest.mark.parametrize("kind", ["psycopg", "sqlalchemy"])
def test_a_connection_that_broke_while_idle_is_replaced(
    switchable: Switchable, engines: Callable[..., Engine], kind: str
) -> None:
    call = caller(switchable.both, engines, kind)
    call()
    with switchable.both.shared.connect("test") as conn:
        conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert call() == switchable.name(Side.SHARED)


def test_a_server_that_is_gone_is_sqlalchemys_own_error(switchable: Switchable, engines: Callable[..., Engine]) -> None:
    nowhere = Databases(Database(Side.SHARED, "postgresql://nobody@127.0.0.1:1/none"), switchable.both.service)
    with pytest.raises(sa.OperationalError):
        where(engines(nowhere))


def test_a_process_may_ask_the_service_side_first(switchable: Switchable, engines: Callable[..., Engine]) -> None:
    """So it starts while the shared server is down."""
    nowhere = Databases(Database(Side.SHARED, "postgresql://nobody@127.0.0.1:1/none"), switchable.both.service)
    switchable.tell(*Side, open_side=Side.SERVICE)
    assert where(engines(nowhere, first=Side.SERVICE)) == switchable.name(Side.SERVICE)


def test_psycopg_transactions_nest_and_roll_back(switchable: Switchable) -> None:
    gated = direct(switchable.both)
    with gated.transaction() as conn:
        conn.execute("CREATE TEMP TABLE note (id int)")
        with pytest.raises(psycopg.errors.DivisionByZero):
            fail_after(gated, "INSERT INTO note VALUES (1)")
        conn.execute("INSERT INTO note VALUES (2)")
    with pytest.raises(psycopg.errors.DivisionByZero):
        fail_after(gated, "DELETE FROM note")
    assert gated.begin() is Side.SHARED
    with gated.transaction() as conn:
        assert conn.execute("SELECT id FROM note").fetchall() == [(2,)]
    gated.close()


def fail_after(gated: GatedConnections, statement: str) -> None:
    with gated.transaction() as conn:
        conn.execute(statement)
        conn.execute("SELECT 1 / 0")


def caller(
    both: Databases,
    engines: Callable[..., Engine],
    kind: str,
    *,
    wait_limit_s: float = 20.0,
    statement_timeout_ms: int = 0,
) -> Callable[[], str]:
    """One transaction of an application, as a function that says where it was."""
    options = f"-c statement_timeout={statement_timeout_ms}"
    if kind == "psycopg":
        return partial(where_direct, direct(both, wait_limit_s=wait_limit_s, options=options))
    return partial(where, engines(both, wait_limit_s=wait_limit_s, connect_args={"options": options}))


def test_an_application_that_was_quiet_since_the_last_switch_meets_no_closed_side(
    tmp_path: Path, pair: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It believes the side that opens to be open already, and its gate is not the one that the switch closes."""
    bank, switchable = Bank.create(tmp_path, pair), Switchable(pair)
    with pair.service.connect("test") as conn:
        conn.execute(TABLES_SQL)
    for side in Side:
        sides.install(pair[side])
    switchable.prepare()
    stale = GatedConnections(
        "bank", {side: partial(psycopg.connect, pair[side].url) for side in Side}, first=Side.SERVICE
    )

    def book() -> None:
        with stale.transaction() as conn:
            conn.execute("INSERT INTO bank.account (owner, balance) VALUES ('quiet', 0)")

    with ThreadPoolExecutor(1) as pool, switchable.executor() as executor:
        run = Run(bank.context, pair, executor)
        for side in Side:
            for table in run.tables(side):
                writelock.create(executor, side, "bank", table, closed=side is Side.SERVICE)
        booking: list[Future[None]] = []

        def application(point: str) -> None:
            if point == "switch.routed":
                booking.append(pool.submit(book))
                wait_until(lambda: booking[0].done() or switchable.waiting(Side.SHARED) == 1)

        monkeypatch.setattr(settle, "kill_point", application)
        with switchable.closed(Side.SHARED):
            settle.open_to(run, Switch(uuid.uuid4(), "bank", Side.SHARED, Side.SERVICE, 2, Outcome.COMMITTED))
        booking[0].result(30)
    with pair.service.connect("test") as conn:
        assert conn.execute("SELECT owner FROM bank.account").fetchall() == [("quiet",)]


@pytest.mark.parametrize("page", ["gate-psycopg.md", "gate-sqlalchemy.md"])
def test_the_code_of_the_pages_works(switchable: Switchable, monkeypatch: pytest.MonkeyPatch, page: str) -> None:
    text = (ROOT / "docs" / "howto" / page).read_text()
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.S))
    for side, variable in ((Side.SHARED, "BANK_SHARED_URL"), (Side.SERVICE, "BANK_URL")):
        monkeypatch.setenv(variable, switchable.both[side].url)
        with switchable.both[side].connect("test") as conn:
            conn.execute("DROP SCHEMA IF EXISTS bank CASCADE")
            conn.execute(TABLES_SQL)
            conn.execute("INSERT INTO bank.account (owner, balance) VALUES ('one', 10)")
    switchable.tell(*Side, open_side=Side.SERVICE)
    exec(compile(code, page, "exec"), {})  # noqa: S102 (our own page)
    for side, expected in ((Side.SHARED, (10, 0)), (Side.SERVICE, (9, 1))):
        with switchable.both[side].connect("test") as conn:
            assert (
                conn.execute("SELECT balance, (SELECT count(*) FROM bank.entry) FROM bank.account").fetchone()
                == expected
            )


class Clerk(threading.Thread):
    """Books entries through one way of SQLAlchemy until it is told to stop; nothing may fail."""

    def __init__(self, engine: Engine, style: str) -> None:
        super().__init__(name=style)
        self._engine = engine
        self._style = style
        self.stop = threading.Event()
        self.booked: list[str] = []
        self.failed: list[BaseException] = []

    def run(self) -> None:
        while not self.stop.is_set() and not self.failed:
            memo = f"{self._style} {len(self.booked)}"
            try:
                self._book(text(f"INSERT INTO bank.entry (account, amount, memo) VALUES (1, 1, '{memo}')"))
                self.booked.append(memo)
            except Exception as error:
                self.failed.append(error)
            self.stop.wait(0.02)

    def _book(self, statement: Any) -> None:
        if self._style == "session":
            with Session(self._engine) as session, session.begin():
                session.execute(statement)
        else:
            with self._engine.begin() as conn:
                conn.execute(statement)

    def wait_for_more(self, count: int = 5) -> None:
        wanted = len(self.booked) + count
        wait_until(lambda: bool(self.failed) or len(self.booked) >= wanted, lambda: f"{self.name} books nothing")


def test_sqlalchemy_applications_notice_nothing_of_a_cutover_and_a_rollback(
    tmp_path: Path, pair: Databases, engines: Callable[..., Engine]
) -> None:
    """Through the real commands, under load, from before ``prepare`` on."""
    bank = Bank.create(tmp_path, pair)
    engine = engines(pair)
    clerks = [Clerk(engine, style) for style in ("session", "begin", "session again")]
    for clerk in clerks:
        clerk.start()
    try:
        bank.cli("prepare", "bank", "--skip-check")
        with bank.worker():
            for verb in ("cutover", "rollback"):
                bank.await_streaming()
                bank.cli("verify", "bank")
                bank.cli(verb, "bank")
                for clerk in clerks:
                    clerk.wait_for_more()
            bank.await_streaming()
    finally:
        for clerk in clerks:
            clerk.stop.set()
        for clerk in clerks:
            clerk.join(30)
    assert [clerk.failed for clerk in clerks] == [[], [], []]
    with pair.shared.connect("test") as conn:
        found = conn.execute("SELECT memo FROM bank.entry WHERE memo IS NOT NULL").fetchall()
    assert sorted(memo for (memo,) in found) == sorted(memo for clerk in clerks for memo in clerk.booked)


def test_a_service_may_enter_the_schema_as_soon_as_it_is_there(
    new_database: Callable[[int, Side], Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While ``prepare`` is at work, services ask at the gate: one that was refused there would have failed."""
    shared = new_database(16, Side.SHARED)
    seen = []

    def look(database: Database) -> None:
        with database.connect("test") as conn:
            usage = "SELECT has_schema_privilege('public', oid, 'USAGE') FROM pg_namespace WHERE nspname = 'carveout'"
            seen.append(conn.execute(usage).fetchall())

    for other in ("stream_state", "rules", "control"):
        monkeypatch.setattr(f"migrator.steps.preparation.{other}.install", look)
    preparation._install(shared)
    assert seen == [[(True,)]] * 3
