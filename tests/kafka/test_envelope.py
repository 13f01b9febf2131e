"""The quick way to read an event is taken for nearly all of them, and reads what the general one reads."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from cdc.kafka.decoder import Envelopes, Undecodable, envelope
from cdc.kafka.decoder.envelope import Boundary, Record, RowEvent
from tests.kafka import recorded

FILES = sorted(path.name.removesuffix(".jsonl.gz") for path in recorded.DATA.glob("*.jsonl.gz"))


def parsed(name: str) -> Iterator[Record | None]:
    """Every event of a file; None where it cannot be read."""
    parser = Envelopes()
    for event in recorded.events(name):
        try:
            yield parser.parse(event.value, event.headers)
        except Undecodable:
            yield None


@pytest.mark.parametrize("name", FILES)
def test_both_ways_read_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = list(parsed(name))
    monkeypatch.setattr(envelope, "_row", lambda *_: None)
    monkeypatch.setattr(envelope, "_boundary", lambda *_: None)
    assert quick == list(parsed(name))


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("scenario")])
def test_the_rows_and_boundaries_of_a_stream_are_read_quickly(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    general: list[Record] = []
    record = envelope._record

    def slow(*given: object) -> Record:
        general.append(record(*given))  # type: ignore[arg-type]
        return general[-1]

    monkeypatch.setattr(envelope, "_record", slow)
    assert any(isinstance(one, RowEvent) for one in parsed(name))
    of_transactions = [one for one in general if isinstance(one, RowEvent) and one.place and one.op != "r"]
    assert not of_transactions
    assert not [one for one in general if isinstance(one, Boundary)]


def test_an_event_that_is_laid_out_otherwise_is_read_too() -> None:
    for event in recorded.events("scenario-C-noschemas"):
        if event.value is not None:
            spaced = json.dumps(event.payload, indent=1).encode()
            one, other = (Envelopes().parse(value, event.headers) for value in (event.value, spaced))
            if isinstance(one, RowEvent) and isinstance(other, RowEvent):
                assert one._replace(size=0) == other._replace(size=0)


@pytest.mark.parametrize(
    "text",
    [
        b'{"before":null,"after":{"id":1}',
        b'{"before":null,"after":{"id":1},"source":{}}',
        b'{"before":null,"after":{"id":1}} {}',
        b'{"status":"END","id":"1:2","event_count":1,"data_collections":[{}],"ts_ms":1}x',
        b'{"before":nul,"after":{"id":1}}',
        b'\xff{"before":null}',
    ],
)
def test_what_is_cut_or_wrong_is_not_read(text: bytes) -> None:
    with pytest.raises(Undecodable):
        Envelopes().parse(text)
