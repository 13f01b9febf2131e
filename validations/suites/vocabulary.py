"""Which expectation types there are and what they take; the library itself would drop an unknown one in silence."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import import_module
from typing import Any

from contexts.errors import ConfigError
from validations.suites.model import Expectation, Suite
from validations.suites.quiet import quiet

#: Types that would say less than they seem to.
_REFUSED = {
    "expect_query_results_to_match_comparison": "it compares 200 rows at most: take"
    " expect_table_checksum_to_equal_other_side",
}
#: Arguments that are no part of what is expected.
_RESERVED = frozenset({"batch_id", "catch_exceptions", "description", "id", "meta", "notes", "rendered_content",
                       "result_format", "severity", "table", "windows"})  # fmt: skip
_ABOUT_COLUMNS = ("column", "column_A", "column_B")


def check(suites: Iterable[Suite]) -> None:
    """Refuse what great-expectations does not know.

    :raises ConfigError: an unknown type, an unknown or missing argument, or a value that cannot be.
    """
    for suite in suites:
        for number, expectation in enumerate(suite.expectations):
            with quiet():
                reason = _why_not(expectation)
            if reason:
                raise ConfigError(
                    f"suite {suite.name}: expectations[{number}]: {expectation.type}: {reason}",
                    unchanged="no suite was run",
                )


def configuration(expectation: Expectation, number: int) -> Any:
    """The expectation as great-expectations takes it; ``number`` comes back with the result."""
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
    from great_expectations.expectations.metadata_types import FailureSeverity

    return ExpectationConfiguration(
        type=expectation.type,
        kwargs=dict(expectation.arguments),
        severity=FailureSeverity(expectation.severity),
        description=expectation.description or None,
        id=str(number),
    )


def columns_of(expectation: Expectation) -> list[str]:
    """The columns that must be there for the expectation to have an answer."""
    if expectation.type.startswith("expect_table_columns_") or expectation.type == "expect_column_to_exist":
        return []
    named = [expectation.arguments.get(key) for key in _ABOUT_COLUMNS]
    for key in ("column_list", "columns"):
        named += expectation.arguments.get(key) or []
    return [str(name) for name in named if name is not None]


def _why_not(expectation: Expectation) -> str | None:
    if reason := _REFUSED.get(expectation.type):
        return reason
    known = _types()
    if expectation.type not in known:
        return f"there is no such type{_nearest(expectation.type, known)}"
    taken = set(known[expectation.type].__fields__) - _RESERVED
    if unknown := sorted(expectation.arguments.keys() - taken):
        return f"unknown argument {', '.join(unknown)} (there are {', '.join(sorted(taken))})"
    try:
        configuration(expectation, 0).to_domain_obj()
    except ValueError as error:
        problems = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()] if hasattr(
            error, "errors") else [str(error)]  # fmt: skip
        return "; ".join(problems)
    return None


@cache
def _types() -> dict[str, Any]:
    from great_expectations.expectations import registry

    for registering in ("great_expectations.expectations.core", "validations.suites.expectations"):
        import_module(registering)
    names = registry.list_registered_expectation_implementations()
    return {name: registry.get_expectation_impl(name) for name in names}


def _nearest(wanted: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(wanted, known, 1)
    return f"; the nearest is {near[0]}" if near else ""
