"""Our own expectations: exact money, rows that satisfy a condition, and the same on both sides.

Importing this module registers them. Great-expectations turns every number of a column into a float; here sums are
compared as decimals, and a column of floats is refused. Across the sides sums and checksums are compared, never rows:
great-expectations' own comparison looks at the first 200 of them.
"""

from __future__ import annotations

from contextvars import ContextVar
from decimal import Decimal, InvalidOperation
from typing import Any, ClassVar

import sqlalchemy as sa
from great_expectations.compatibility import pydantic
from great_expectations.expectations.expectation import BatchExpectation

#: The other side while expectations run that compare both; None where one side alone is asked.
other_side: ContextVar[Any] = ContextVar("other_side", default=None)
#: Types whose sums do not depend on the order of the rows.
_EXACT = frozenset({"numeric", "bigint"})
Answer = dict[str, Any]


class _OneQuery(BatchExpectation):
    """Asks one statement that answers one row; no metric of great-expectations is behind it."""

    metric_dependencies: ClassVar[tuple[str, ...]] = ()

    def statement(self, rows: Any) -> Any:
        """What to ask of the table."""
        raise NotImplementedError

    def judge(self, row: Any) -> Answer:
        """What the row means, as great-expectations wants it."""
        raise NotImplementedError

    def _validate(self, metrics: Any, runtime_configuration: Any = None, execution_engine: Any = None) -> Answer:
        return self.judge(self._ask(execution_engine))

    def _ask(self, engine: Any) -> Any:
        return engine.execute_query(self.statement(engine.batch_manager.active_batch_data.selectable)).one()


class ExpectColumnSumToEqualExactly(_OneQuery):
    """The sum of a column is this amount, to the last digit; ``total`` is text, so no float is ever made of it."""

    column: str
    total: pydantic.StrictStr
    success_keys: ClassVar[tuple[str, ...]] = ("column", "total")

    @pydantic.validator("total")
    def _is_an_amount(cls, total: str) -> str:  # noqa: N805 (a class method in pydantic's old interface)
        try:
            finite = Decimal(total).is_finite()
        except InvalidOperation:
            finite = False
        if not finite:
            raise ValueError('an amount is written as text: "1234.50"')
        return total

    def statement(self, rows: Any) -> Any:
        """Count, sum and type of the sum."""
        return _sum(rows, self.column)

    def judge(self, row: Any) -> Answer:
        """Equal as decimals: the scale plays no part."""
        count, total, kind = row
        if kind not in _EXACT:
            return _no_answer(f"{self.column}: sums of {kind} prove nothing")
        met = total is not None and Decimal(total) == Decimal(self.total)
        return {"success": met, "result": {"element_count": count, "observed_value": total or "no amount"}}


class ExpectColumnValuesToBeExactMoney(_OneQuery):
    """A column holds amounts: numeric or integer, never a float, finite, with at most so many digits of a fraction."""

    column: str
    scale: pydantic.conint(strict=True, ge=0) = 2  # type: ignore[valid-type]
    success_keys: ClassVar[tuple[str, ...]] = ("column", "scale")

    def statement(self, rows: Any) -> Any:
        """Rows, those that are no such amount, and the type of their sum, which tells floats from exact types."""
        column: Any = sa.column(self.column)
        infinite = sa.cast(column, sa.Text).in_(["NaN", "Infinity", "-Infinity"])
        too_fine = sa.func.scale(sa.func.trim_scale(sa.cast(column, sa.Numeric))) > self.scale
        wrong = sa.func.count().filter(sa.or_(infinite, too_fine))
        return sa.select(sa.func.count(), wrong, _type_of(sa.func.sum(column))).select_from(rows)

    def judge(self, row: Any) -> Answer:
        """No row is wrong, and the type is exact."""
        count, wrong, kind = row
        exact = kind in _EXACT
        seen = "" if exact else f"sums are {kind}"
        counts = {"element_count": count, "unexpected_count": wrong if exact else count}
        return {"success": exact and not wrong, "result": {**counts, "observed_value": seen}}


class ExpectRowsToSatisfy(_OneQuery):
    """A condition in SQL is not false for any row; unknown (NULL) passes, as in a CHECK constraint."""

    condition: pydantic.StrictStr
    success_keys: ClassVar[tuple[str, ...]] = ("condition",)

    def statement(self, rows: Any) -> Any:
        """Rows, and those for which it is false."""
        # The line break ends a comment at its end.
        false: Any = sa.literal_column(f"({self.condition}\n) IS FALSE", sa.Boolean())
        return sa.select(sa.func.count(), sa.func.count().filter(false)).select_from(rows)

    def judge(self, row: Any) -> Answer:
        """It is false for none."""
        count, wrong = row
        return {"success": not wrong, "result": {"element_count": count, "unexpected_count": wrong}}


class _SameOnBothSides(_OneQuery):
    """Asks both sides the same."""

    def _validate(self, metrics: Any, runtime_configuration: Any = None, execution_engine: Any = None) -> Answer:
        other = other_side.get()
        if other is None:
            return _no_answer("needs both sides")
        return self.compare(self._ask(execution_engine), self._ask(other))

    def compare(self, shared: Any, service: Any) -> Answer:
        """What the two rows mean."""
        raise NotImplementedError


class ExpectColumnSumToEqualOtherSide(_SameOnBothSides):
    """The sum of a column is the same on both sides, to the last digit."""

    column: str
    success_keys: ClassVar[tuple[str, ...]] = ("column",)

    def statement(self, rows: Any) -> Any:
        """Count, sum and type of the sum."""
        return _sum(rows, self.column)

    def compare(self, shared: Any, service: Any) -> Answer:
        """Equal as decimals."""
        for _, _, kind in (shared, service):
            if kind not in _EXACT:
                return _no_answer(f"{self.column}: sums of {kind} prove nothing")
        sums = [None if total is None else Decimal(total) for _, total, _ in (shared, service)]
        return _both(sums[0] == sums[1], min(shared[0], service[0]), shared[1], service[1])


class ExpectTableChecksumToEqualOtherSide(_SameOnBothSides):
    """Both sides have the same number of rows and the same sum of hashes of the rows' text."""

    columns: list[str] = pydantic.Field(min_items=1)
    success_keys: ClassVar[tuple[str, ...]] = ("columns",)

    def statement(self, rows: Any) -> Any:
        """Count, and the sum of 64 bits of each row's MD5: in any order, in any encoding the same."""
        text = sa.cast(sa.func.row(*[sa.column(name) for name in self.columns]), sa.Text)
        digest = sa.func.left(sa.func.md5(sa.func.convert_to(text, "UTF8")), 16)
        number: Any = sa.cast(sa.cast("x" + digest, _Bits()), sa.BigInteger)
        total = sa.cast(sa.func.coalesce(sa.func.sum(sa.cast(number, sa.Numeric)), 0), sa.Text)
        return sa.select(sa.func.count(), total).select_from(rows)

    def compare(self, shared: Any, service: Any) -> Answer:
        """Equal in both."""
        seen = [f"{count} rows, checksum {total}" for count, total in (shared, service)]
        return _both(tuple(shared) == tuple(service), min(shared[0], service[0]), *seen)


class _Bits(sa.types.UserDefinedType[str]):
    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "bit(64)"


def _sum(rows: Any, name: str) -> Any:
    total: Any = sa.func.sum(sa.column(name))
    return sa.select(sa.func.count(), sa.cast(total, sa.Text), _type_of(total)).select_from(rows)


def _type_of(expression: Any) -> Any:
    return sa.cast(sa.func.pg_typeof(expression), sa.Text)


def _both(met: bool, rows: int, shared: object, service: object) -> Answer:
    seen = f"{shared} on both sides" if str(shared) == str(service) else f"shared {shared}, service {service}"
    return {"success": met, "result": {"element_count": rows, "observed_value": seen}}


def _no_answer(why: str) -> Answer:
    return {"success": False, "result": {"details": {"no_answer": why}}}


#: Types of ours whose observed value is no value of a row.
OURS: frozenset[str] = frozenset(
    one.expectation_type
    for one in (
        ExpectColumnSumToEqualExactly,
        ExpectColumnValuesToBeExactMoney,
        ExpectRowsToSatisfy,
        ExpectColumnSumToEqualOtherSide,
        ExpectTableChecksumToEqualOtherSide,
    )
)
#: Types that compare both sides: asked once for both.
ACROSS: frozenset[str] = frozenset(
    one.expectation_type for one in (ExpectColumnSumToEqualOtherSide, ExpectTableChecksumToEqualOtherSide)
)
