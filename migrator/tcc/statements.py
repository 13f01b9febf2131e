"""The statements of Try, Confirm, Cancel for the tables of one schema."""

from __future__ import annotations

from collections.abc import Mapping

from migrator.messaging.sessions import execute_of, statements_of

__all__ = ["execute_of", "statements"]


def statements(schema: str) -> Mapping[str, str]:
    """Every statement by name.

    :raises ValueError: the schema's name would need quotes.
    """
    return statements_of("migrator.tcc", schema)
