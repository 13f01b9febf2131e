"""Receiving a backlog without applying it: how much of the time of ``apply`` is the source's."""

from __future__ import annotations

from functools import partial

from bench import backlog, data, ours, peers
from bench.harness import Comparison, Contestant, Details, Ends, Rig, compare
from cdc.lsn import format_lsn


def contest(bench: Rig, rows: int, transactions: int, rounds: int) -> Comparison:
    """Our source, which decodes every row, against ``pg_recvlogical``, which only writes down what it received."""
    backlog.prepare(bench, rows, "small_transactions", transactions=transactions)
    units = transactions * backlog.ROWS_PER_TRANSACTION
    job = Comparison("read, small transactions", units, backlog.setting(bench, rows))
    run = partial(received, major=bench.source.major)
    contestants = [
        Contestant("carveout", ours.read, ours.begin_stream, backlog.end),
        Contestant("pg_recvlogical to /dev/null", run, backlog.begin, backlog.end),
    ]
    return compare(bench, job, contestants, rounds)


def received(ends: Ends, major: int) -> Details:
    """What the server and the wire allow; nothing is decoded."""
    last, slot = format_lsn(data.log_end(ends.source)), backlog.RUN_SLOT
    command = ["pg_recvlogical", "-d", ends.source, "--slot", slot, "--start", "--endpos", last, "-f", "/dev/null"]
    options = ["-o", "proto_version=2", "-o", f"publication_names={data.PUBLICATION}", "-o", "streaming=on"]
    peers.run([*command, *options, "--no-loop"], peers.server_programs(major))
    return {}
