"""What consumers of a context's topic can rely on: the shape of its events, as JSON Schema and as Avro, versioned."""

from cdc.kafka.contract.compatibility import Break, Change, compare
from cdc.kafka.contract.folder import FORMATS, read, schemas, write
from cdc.kafka.contract.model import Contract, Field, TableEvents, describe

__all__ = [
    "FORMATS",
    "Break",
    "Change",
    "Contract",
    "Field",
    "TableEvents",
    "compare",
    "describe",
    "read",
    "schemas",
    "write",
]
