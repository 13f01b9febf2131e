"""Receiving a backlog without applying it: how much of the time of ``apply`` is the source's."""

from __future__ import annotations

from functools import partial

from bench import data, ours, peers
from bench.apply import ROWS_PER_TRANSACTION, RUN_SLOT, backlog_setting, begin, drop_slot, prepare
from bench.harness import Comparison, Contestant, Details, Ends, Rig, compare
from cdc.lsn import format_lsn


def contest(bench: Rig, rows: int, transactions: int, rounds: int) -> Comparison:
    """Our source, which decodes every row, against ``pg_recvlogical``, which only writes down what it received."""
    prepare(bench, rows, "small_transactions", transactions=transactions)
    job = Comparison("read, small transactions", transactions * ROWS_PER_TRANSACTION, backlog_setting(bench, rows))
    contestants = [
        Contestant("carveout", ours.read, ours.begin_stream, drop_slot),
        Contestant("pg_recvlogical to /dev/null", partial(received, major=bench.source.major), begin, drop_slot),
    ]
    return compare(bench, job, contestants, rounds)


def received(ends: Ends, major: int) -> Details:
    """What the server and the wire allow; nothing is decoded."""
    end = format_lsn(data.log_end(ends.source))
    command = ["pg_recvlogical", "-d", ends.source, "--slot", RUN_SLOT, "--start", "--endpos", end, "-f", "/dev/null"]
    options = ["-o", "proto_version=2", "-o", f"publication_names={data.PUBLICATION}", "-o", "streaming=on"]
    peers.run([*command, *options, "--no-loop"], peers.server_programs(major))
    return {}
