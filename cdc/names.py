"""The names of what Carveout makes in a database; a context's name is at most 40 characters, so all fit into 63."""

from __future__ import annotations

from cdc.state.position import StreamId


def publication_name(context: str) -> str:
    """The publication of a context's tables, the same on both sides."""
    return f"carveout_{context}"


def slot_name(stream: StreamId) -> str:
    """The replication slot of one stream, on its open side."""
    return f"carveout_{stream.context}_{stream.epoch}"


def barrier_slot_name(context: str, number: int) -> str:
    """A temporary slot that exists to export one snapshot."""
    return f"carveout_{context}_barrier_{number}"


def gate_name(context: str) -> str:
    """The qualified name of the table whose lock new transactions of applications wait for, on either side."""
    return f"carveout.gate_{context}"
