"""Every type of PostgreSQL is accepted or refused by name, as the page says, and every accepted one was played."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from contexts.databases import Database
from contexts.model import Side
from tests.kafka import every_type, type_table
from tests.kafka.type_table import TypeRow

Rows = tuple[list[TypeRow], list[TypeRow], list[TypeRow]]


@pytest.fixture
def rows(new_database: Callable[[int, Side], Database]) -> Rows:
    newest, other = (new_database(n, Side.SHARED) for n in (type_table.BUILT_IN, type_table.EXTENDED))
    with newest.connect("types") as one, other.connect("types", search_path="public") as extensions:
        return type_table.of_servers(one, extensions)


def test_the_page_lists_every_type(rows: Rows) -> None:
    assert type_table.PAGE.read_text() == type_table.page(*rows), "run: python -m tests.kafka.type_table"


@pytest.mark.parametrize("major", [14, 15, 16, 17])
def test_older_servers_have_no_others(major: int, rows: Rows, new_database: Callable[[int, Side], Database]) -> None:
    with new_database(major, Side.SHARED).connect("types") as conn:
        assert set(type_table.built_in(conn)) <= {row.name for row in rows[0]}


def plain(name: str) -> str:
    return re.sub(r"\(.*?\)|^public\.", "", name)


def test_every_accepted_type_is_in_the_histories(rows: Rows) -> None:
    built_in, own, extensions = rows
    accepted = {plain(r.name) for r in built_in if r.own.word == "yes"}
    played = {plain(name) for name in every_type.BUILT_IN if not name.startswith("h.")}
    assert played | {"xml"} == accepted
    arrays = {plain(r.name) + "[]" for r in built_in if r.array.word == "plain"}
    assert {plain(name) for name in every_type.ARRAYS} == arrays
    assert {plain(r.name) + "[]" for r in built_in if r.array.word == "plain, FULL"} == set(every_type.FULL_ARRAYS)
    assert {r.name for r in built_in if r.own.word == "FULL"} == {"bit(65)"} < every_type.FULL.keys()
    assert {r.name: r.own.word for r in own} == {
        "t.enum": "yes", "t.composite": "yes", "t.range": "no", "t.multirange": "no",
    }  # fmt: skip
    assert {plain(r.name) for r in extensions if r.own.word == "yes"} | {"xml"} == {
        plain(name) for name in every_type.EXTENDED
    }
    assert {r.array.word for r in (*own, *extensions)} == {"no"}
    under_domains = {plain(r.name) for r in built_in if r.domain.word == "yes"}
    assert under_domains == {name for name in accepted if name != "bit"}


def test_a_refusal_has_its_reason(rows: Rows) -> None:
    refused = [v for part in rows for row in part for v in (row.own, row.array, row.domain) if v.word == "no"]
    assert len(refused) > 50
    assert all(verdict.reason for verdict in refused)
