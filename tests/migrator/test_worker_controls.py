"""What an operator can say to a running worker, and what it says: intents, status, metrics, logs."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from contexts.databases import Databases
from contexts.embedded import free_port
from contexts.model import Side
from migrator.worker.metrics import GAUGES
from tests.conftest import need
from tests.migrator.commands import run
from tests.migrator.moving import ROOT, Bank
from tests.waiting import PATIENCE_S, wait_until


@pytest.fixture
def bank(tmp_path: Path, pair: Databases) -> Bank:
    made = Bank.create(tmp_path, pair, options="throttle_active_sessions = 3")
    run(made, "prepare", "bank", "--skip-check")
    return made


@pytest.fixture
def streaming(bank: Bank) -> Iterator[Bank]:
    with bank.worker("--log-json"):
        bank.await_streaming()
        yield bank


def report(bank: Bank) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(bank, "status", "bank", "--json").out)["worker"]
    return found


def test_pause_and_resume(streaming: Bank) -> None:
    run(streaming, "pause", "bank")
    wait_until(lambda: report(streaming)["paused"] == "asked to pause", streaming.worker_log)
    before = streaming.rows(Side.SERVICE)
    streaming.pay(Side.SHARED, 1, 2)
    wait_until(lambda: report(streaming)["lag_s"] > 2, streaming.worker_log)
    assert streaming.rows(Side.SERVICE) == before
    assert [intent["kind"] for intent in streaming.status()["intents"]] == ["pause"]
    assert "asked to pause" in run(streaming, "status", "bank").out
    assert "the worker is asked to pause" in run(streaming, "cutover", "bank", expect=4).err
    run(streaming, "resume", "bank")
    streaming.await_equal()
    assert report(streaming)["paused"] is None


def test_a_throttle_is_kept_and_lifted_at_once(streaming: Bank) -> None:
    run(streaming, "throttle", "bank", "1")
    wait_until(lambda: report(streaming)["paused"] is None and streaming.status()["intents"] != [])
    with streaming.both.shared.connect("test") as conn:
        conn.execute("INSERT INTO bank.entry (account, amount) SELECT 1 + g % 200, 0 FROM generate_series(1, 900) g")
    streaming.pay(Side.SHARED, 1, 2)
    wait_until(lambda: report(streaming)["lag_s"] > 2, streaming.worker_log)
    run(streaming, "throttle", "bank", "0")  # the 900 rows alone would take 15 minutes
    streaming.await_equal()


def test_a_busy_shared_database_is_spared(streaming: Bank) -> None:
    busy = [psycopg.connect(streaming.both.shared.url, autocommit=True) for _ in range(4)]
    for conn in busy:
        conn.pgconn.send_query(b"SELECT pg_sleep(600)")
    wait_until(lambda: "active sessions on the shared database (limit 3)" in str(report(streaming)["paused"]))
    for conn in busy:
        conn.cancel_safe()
        conn.close()
    streaming.pay(Side.SHARED, 1, 2)
    streaming.await_equal()


def test_metrics_are_served_on_loopback_alone(bank: Bank) -> None:
    need("metrics", _has_prometheus(), "pip install 'carveout[metrics]'")
    port = free_port()
    with bank.worker("--metrics", str(port)) as worker:
        bank.await_streaming()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE_S) as answer:
            text = answer.read().decode()
        for name in GAUGES:
            assert re.search(rf'^{name}{{[^}}]*context="bank"[^}}]*}} [0-9.e+-]+$', text, re.MULTILINE), name
        listening = Path(f"/proc/{worker.process.pid}/net/tcp").read_text()
        assert f" 0100007F:{port:04X} " in listening
        assert f" 00000000:{port:04X} " not in listening


def test_every_line_of_the_log_is_json(streaming: Bank) -> None:
    lines = [json.loads(line) for line in (streaming.folder / "worker.log").read_text().splitlines()]
    assert lines
    assert all(line.keys() >= {"time", "level", "logger", "message"} for line in lines)


def test_status_is_shown_until_it_is_interrupted(streaming: Bank) -> None:
    command = [sys.executable, str(ROOT / "migrate.py"), "status", "--watch", "--project", str(streaming.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as shown:
        assert shown.stdout is not None
        seen = 0
        while seen < 2:
            line = shown.stdout.readline()
            assert line, shown.communicate()
            seen += line.startswith("bank")
        shown.send_signal(signal.SIGINT)
        _, errors = shown.communicate(timeout=PATIENCE_S)
    assert (shown.returncode, errors) == (0, "")


def _has_prometheus() -> bool:
    from importlib.util import find_spec

    return find_spec("prometheus_client") is not None
