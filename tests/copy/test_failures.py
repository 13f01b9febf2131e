"""What a server refuses is named with its side, table and part; the next run goes on from the ledger."""

from __future__ import annotations

import psycopg
import pytest

from cdc import copy
from cdc.copy import ledger
from contexts.databases import Database, Databases
from contexts.errors import AccessDenied, DatabaseUnreachable
from contexts.model import Side, Table, TableName
from tests.copy.helpers import Control, assert_same, both, context, cycle, execute, plan, scalar, snapshot

T = TableName("public", "t")
FILLED = "CREATE TABLE t (id int PRIMARY KEY, body text)"
FILL = "INSERT INTO t SELECT i, repeat('x', 300) FROM generate_series(1, 1000) i"
MOVED = context(Table(name=T, copy_by="key"), copy_workers=1)
FULL_DISK = """
CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
$$BEGIN IF new.id = 700 THEN RAISE 'could not extend file' USING ERRCODE = 'disk_full'; END IF; RETURN new; END$$;
CREATE TRIGGER full_disk BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION full_disk();
ALTER TABLE t ENABLE ALWAYS TRIGGER full_disk
"""


@pytest.fixture
def filled(pair: Databases, small_parts: None) -> Databases:
    both(pair, FILLED)
    execute(pair.shared, FILL)
    return pair


def test_a_full_disk(filled: Databases) -> None:
    execute(filled.service, FULL_DISK)
    with pytest.raises(
        copy.DiskFull, match=r"service database \(.*\): public\.t part \d+: could not extend file"
    ) as caught:
        cycle(filled, MOVED)
    assert "make room" in caught.value.next_step
    assert not caught.value.transient
    done = scalar(filled.service, "SELECT sum(rows) FROM carveout.copy_part WHERE done")
    assert done == scalar(filled.service, "SELECT count(*) FROM public.t") != 0
    execute(filled.service, "DROP TRIGGER full_disk ON t")
    result = cycle(filled, MOVED)
    assert result.finished
    assert result.rows + int(str(done)) == 1000
    assert_same(filled, "public.t")


def test_a_missing_right(filled: Databases) -> None:
    with psycopg.connect(filled.shared.url, autocommit=True) as conn:
        conn.execute("DROP ROLE IF EXISTS copy_reader")
        conn.execute("CREATE ROLE copy_reader LOGIN")
    reader = Database(Side.SHARED, filled.shared.url.replace("postgres@", "copy_reader@"))
    plan(filled, MOVED)
    with (
        snapshot(filled.shared) as exported,
        pytest.raises(AccessDenied, match=r"shared database \(copy_reader@.*table t"),
    ):
        copy.run_cycle(reader, filled.service, MOVED, snapshot=exported, deadline_s=60, control=Control())
    assert scalar(filled.service, "SELECT count(*) FROM public.t") == 0


def test_a_lost_connection_is_transient(filled: Databases) -> None:
    def cut(progress: copy.CopyProgress) -> bool:
        if progress.running:
            name = ledger.session_name("wallet")
            query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'carveout/{}'"
            execute(filled.service, query.format(name))
        return False

    with filled.service.connect("test", autocommit=False) as lock:
        lock.execute("LOCK TABLE public.t IN SHARE MODE")
        with pytest.raises(DatabaseUnreachable, match=r"service database .*public\.t part 0") as caught:
            cycle(filled, MOVED, Control(stop=cut))
    assert caught.value.transient
    assert cycle(filled, MOVED).finished
    assert_same(filled, "public.t")


def test_a_row_that_is_there_already_is_refused_without_its_value(filled: Databases) -> None:
    moved = context(Table(name=T, copy_by="ctid"))
    execute(filled.service, "ALTER TABLE t ADD CONSTRAINT one_body UNIQUE (body)")
    with pytest.raises(copy.CopyFailed, match=r"UniqueViolation \(23505\) at one_body") as caught:
        cycle(filled, moved)
    assert "xxx" not in "\n".join(caught.value.lines())


def test_a_table_that_cannot_be_locked_soon_ends_the_cycle(filled: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    plan(filled, MOVED)
    with filled.shared.connect("test", autocommit=False) as change, snapshot(filled.shared) as exported:
        change.execute("LOCK TABLE public.t IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(copy.SnapshotLost, match="lock timeout") as caught:
            copy.run_cycle(filled.shared, filled.service, MOVED, snapshot=exported, deadline_s=60, control=Control())
    assert caught.value.transient
    assert cycle(filled, MOVED).finished
