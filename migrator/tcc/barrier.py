"""The participant's side: each call once, in whatever order and however often the calls come.

The barrier row is written in the business transaction, so the two cannot differ. A cancel that comes first leaves a row
that refuses the try when it comes at last (and would never be cancelled).
"""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from contexts.errors import CarveoutError
from migrator.tcc.statements import execute_of, statements


class TooLate(CarveoutError):
    """The transaction was cancelled before this call came: nothing may be done any more."""


class OutOfOrder(CarveoutError):
    """A call that the protocol does not allow here: a confirm without a try, a cancel after a confirm."""


class Barrier:
    """The barrier of one branch of a service.

    Each method takes the session of the business transaction (psycopg or SQLAlchemy) and says whether the business
    part is to be done; where it says no, this call was done before, or there is nothing to undo.

    :param schema: where the service keeps ``tcc_branch``; a moved context moves it along with its tables.
    :param branch: the service's name in the transaction.
    """

    def __init__(self, schema: str, branch: str) -> None:
        self._sql = statements(schema)
        self._branch = branch

    def try_(self, session: Any, gid: uuid.UUID, deadline: dt.datetime) -> bool:
        """Before something is reserved.

        :raises TooLate: a cancel was here first.
        """
        if execute_of(session)(self._sql["try"], (gid, self._branch, deadline)):
            return True
        if self._state(session, gid) == "cancelled":
            raise TooLate(f"transaction {gid}: branch {self._branch!r} was cancelled", unchanged="nothing was reserved")
        return False

    def confirm(self, session: Any, gid: uuid.UUID) -> bool:
        """Before what was reserved is used.

        :raises OutOfOrder: it was not tried, or it was cancelled.
        """
        if execute_of(session)(self._sql["confirm"], (gid, self._branch)):
            return True
        if (state := self._state(session, gid)) != "confirmed":
            raise self._out_of_order(gid, "confirmed", state)
        return False

    def cancel(self, session: Any, gid: uuid.UUID) -> bool:
        """Before what was reserved is given back; False also where it was never tried, and then never will be.

        :raises OutOfOrder: it was confirmed.
        """
        rows = execute_of(session)(self._sql["cancel"], (gid, self._branch))
        if rows:
            return not rows[0][0]
        if (state := self._state(session, gid)) != "cancelled":
            raise self._out_of_order(gid, "cancelled", state)
        return False

    def _state(self, session: Any, gid: uuid.UUID) -> str | None:
        rows = execute_of(session)(self._sql["branch"], (gid, self._branch))
        return rows[0][0] if rows else None

    def _out_of_order(self, gid: uuid.UUID, wanted: str, state: str | None) -> OutOfOrder:
        return OutOfOrder(
            f"transaction {gid}: branch {self._branch!r} cannot be {wanted}, it is {state or 'not tried'}",
            unchanged="nothing was changed",
        )
