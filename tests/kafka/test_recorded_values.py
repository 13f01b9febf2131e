"""Every recorded row decodes to the very text that the table holds, or its column is refused by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from cdc.events import ABSENT, Row
from cdc.kafka.decoder import Envelopes, TableDecoder, Undecodable, lossless
from cdc.kafka.decoder.envelope import RowEvent
from contexts.catalog import Table
from contexts.databases import Connection, Database
from contexts.model import Side, TableName
from tests.kafka import recorded

TYPES = TableName("app", "types_all")
SPECIAL = TableName("app", "special")
#: Refused whatever the connector's settings are.
ALWAYS_REFUSED = {
    "c_varbit", "c_varbit10", "c_timetz", "c_timetz3", "c_num_arr", "c_date_arr", "c_ts_arr", "c_tstz_arr",
    "c_time_arr", "c_inet_arr", "c_enum_arr", "c_comp_arr", "c_regclass", "c_int_arr2",
}  # fmt: skip
UNKNOWN_TYPES = {
    "c_name", "c_jsonpath", "c_comp", "c_int4mr", "c_line", "c_lseg", "c_box", "c_path", "c_polygon", "c_circle",
    "c_tsquery", "c_pg_lsn", "c_xid",
}  # fmt: skip
DECIMALS = {"c_num_10_2", "c_num_38_0", "c_num_5", "c_num_unc", "c_num_negscale", "c_num_bigscale", "c_money",
            "c_dom_num", "c_def_num"}  # fmt: skip
INTERVALS = {"c_interval", "c_interval_ym", "c_interval3"}
TIMES = {"c_time0", "c_time3", "c_time", "c_ts0", "c_ts1", "c_ts3", "c_ts4", "c_ts"}
REFUSED = {
    "types-A-defaults": DECIMALS | INTERVALS | UNKNOWN_TYPES,
    "types-B-string-us": {"c_bytea_arr"},
    "types-C-double-connect": DECIMALS | INTERVALS | UNKNOWN_TYPES | TIMES | {"c_date", "c_bytea_arr"},
    "types-D-precise-isostring": DECIMALS | TIMES | {"c_date", "c_bytea_arr"},
    "types-E-microseconds": INTERVALS,
    "types-G-string-adaptive-propagate": INTERVALS,
    "types-H-keep-nulls": INTERVALS,
}


@pytest.fixture
def database(new_database: Callable[[int, Side], Database]) -> Database:
    return new_database(15, Side.SHARED)


@pytest.fixture
def conn(database: Database) -> Iterator[Connection]:
    with database.connect("test") as conn:
        yield conn


def rows(name: str, table: Table, decoder: TableDecoder) -> Iterator[tuple[RowEvent, dict[str, object]]]:
    parser = Envelopes()
    for event in recorded.events(name):
        if event.table == str(table.name):
            parsed = parser.parse(event.value, event.headers)
            assert isinstance(parsed, RowEvent)
            try:
                new: Row = decoder.insert(parsed).new
            except Undecodable as error:
                yield parsed, {"undecodable": error}
            else:
                yield parsed, dict(zip((c.name for c in table.written_columns), new, strict=True))


@pytest.mark.parametrize("name", REFUSED)
def test_every_type_arrives_as_the_tables_text_or_is_refused(name: str, database: Database, conn: Connection) -> None:
    recorded.run_sql(database, "01_types_schema.sql")
    for tag in ("snapshot:", "stream:"):
        recorded.run_sql(database, "01_types_rows.sql", tag=tag)
    table = recorded.tables(conn, "app")[TYPES]
    encoding = recorded.encoding(name)
    # What is said of the connector as a whole (NULLs, snapshots) is tested apart.
    judged = replace(encoding, nulls_kept=True, snapshots=False)
    refused = {
        c.name
        for c in table.columns
        if lossless(c, judged, identity_full=True, plain_array=c.name != "c_int_arr2") is not None
    }
    assert refused == ALWAYS_REFUSED | REFUSED[name]
    held = {row[0]: row for row in recorded.texts(conn, table)}
    names = [c.name for c in table.written_columns]
    compared = 0
    for _, new in rows(name, table, TableDecoder(table, encoding)):
        row = dict(zip(names, held[new["id"]], strict=True))  # type: ignore[index]
        for column in names:
            if column in refused - {"c_int_arr2"}:
                assert new[column] is ABSENT
            elif column not in refused and (encoding.nulls_kept or not column.startswith("c_def_")):
                assert new[column] == row[column], (row["label"], column)
                compared += row[column] is not None
    assert compared > 150


def test_a_null_that_arrives_as_a_default_is_refused(database: Database, conn: Connection) -> None:
    recorded.run_sql(database, "01_types_schema.sql")
    table = recorded.tables(conn, "app")[TYPES]
    lossy, kept = recorded.encoding("types-B-string-us"), recorded.encoding("types-H-keep-nulls")
    refusal = lossless(table.column("c_def_int"), lossy, identity_full=True)
    assert refusal is not None
    assert "value.converter.replace.null.with.default=false" in refusal.fix
    assert lossless(table.column("c_def_int"), replace(kept, snapshots=False), identity_full=True) is None


@pytest.mark.parametrize("name", ["special-B-string", "special-numeric-infinity-string"])
def test_special_values(name: str, database: Database, conn: Connection) -> None:
    with database.connect("test", search_path="app") as owner:
        owner.execute("CREATE SCHEMA app")
    recorded.run_sql(database, "02_special_rows.sql")
    file = "02_special_numeric_infinity.sql" if "infinity" in name else "02_special_values.sql"
    for base in ("100", "200"):
        recorded.run_sql(database, file, base=base)
    table = recorded.tables(conn, "app")[SPECIAL]
    held = {row[0]: row for row in recorded.texts(conn, table)}
    names = [c.name for c in table.written_columns]
    seen = 0
    for event, new in rows(name, table, TableDecoder(table, recorded.encoding(name))):
        assert event.after is not None
        if event.after["label"] == "far future":  # its timestamp overflows in the connector
            assert "outside the range" in str(new["undecodable"])
            continue
        row = dict(zip(names, held[new["id"]], strict=True))  # type: ignore[index]
        if event.op == "r" and row["label"] == b"BC":  # a snapshot read loses the era, see lossless()
            row["c_date"], new["c_date"] = b"", b""
        assert new == row
        seen += 1
    assert seen == (2 if "infinity" in name else 32)
