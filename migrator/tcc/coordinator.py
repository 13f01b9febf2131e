"""The initiator's side: a log in its own database, the calls, and whoever ends what a dead coordinator left.

The one decision is the log's state: ``confirming`` or ``cancelling``, from ``trying``, in one update. After it, only
forward: calls are repeated until they are done, by this process or by :meth:`Coordinator.recover` in another.
"""

from __future__ import annotations

import datetime as dt
import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import psycopg
from psycopg.types.json import Jsonb

from contexts.errors import CarveoutError
from contexts.killpoints import kill_point
from migrator.messaging.outbox import Outbox
from migrator.tcc.statements import execute_of, statements

_log = logging.getLogger(__name__)
_ENDED = {"confirming": "confirmed", "cancelling": "cancelled"}
Connection = psycopg.Connection[Any]


class Cancelled(CarveoutError):
    """A branch refused, or time was over: every branch is cancelled, now or as soon as it can be reached."""


class Participant(Protocol):
    """A service as the coordinator calls it, over whatever carries the call. Every call may come more than once."""

    def try_(self, gid: uuid.UUID, arguments: Any, deadline: dt.datetime) -> None:
        """Reserve; raising anything cancels the transaction."""

    def confirm(self, gid: uuid.UUID, arguments: Any) -> None:
        """Use what was reserved; it must succeed in the end."""

    def cancel(self, gid: uuid.UUID, arguments: Any) -> None:
        """Give back what was reserved, where anything was."""


@dataclass
class Recovered:
    """What a recovery has ended, and what it must try again."""

    confirmed: list[uuid.UUID] = field(default_factory=list)
    cancelled: list[uuid.UUID] = field(default_factory=list)
    waiting: list[uuid.UUID] = field(default_factory=list)


class Coordinator:
    """Runs transactions over several services; safe between threads where ``connect`` is.

    :param connect: opens a connection to the initiating service's database, which holds the log.
    :param schema: where the log's tables are.
    :param limit_s: a transaction that is not decided by then is cancelled.
    :param outbox: Confirm and Cancel travel as its messages, written with the decision; without it they are called.
    :param grace_s: what messages have not ended by then, :meth:`recover` ends by calling.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        schema: str,
        participants: Mapping[str, Participant],
        *,
        limit_s: float = 10.0,
        outbox: Outbox | None = None,
        grace_s: float = 30.0,
    ) -> None:
        self._connect = connect
        self._sql = statements(schema)
        self._participants = participants
        self._limit_s = limit_s
        self._outbox = outbox
        self._grace_s = grace_s if outbox else 0.0

    def run(self, calls: Mapping[str, Any], decide: Callable[[Connection], object] = lambda _: None) -> uuid.UUID:
        """Try every branch, then confirm all or cancel all.

        :param calls: each participant's arguments, as JSON values: the log keeps them for its confirm or cancel.
        :param decide: what the initiator itself writes, in the transaction of the decision.
        :returns: the transaction's id. Branches that could not be reached are confirmed by :meth:`recover`, and those
            that messages are to reach when these arrive.
        :raises Cancelled: nothing of it remains, or will remain.
        """
        gid = uuid.uuid4()
        deadline = self._begin(gid, calls)
        kill_point("tcc.begun")
        try:
            for branch, arguments in calls.items():
                self._participants[branch].try_(gid, arguments, deadline)
                kill_point("tcc.tried")
            is_decided = self._decide(gid, "confirming", None, decide)
        except Exception as error:
            self._decide(gid, "cancelling", type(error).__name__)
            self._go_on(gid)
            raise _cancelled(gid, str(error)) from error
        if not is_decided:
            self._decide(gid, "cancelling", "its time was over")
        kill_point("tcc.decided")
        self._go_on(gid)
        if not is_decided:
            raise _cancelled(gid, "its time was over")
        return gid

    def recover(self) -> Recovered:
        """End what nobody ends any more; safe to run anywhere, any time, by several at once."""
        found = Recovered()
        with self._connect() as conn:
            rows = execute_of(conn)(self._sql["unfinished"], (self._grace_s,))
        for gid, state in rows:
            if state == "trying":
                self._decide(gid, "cancelling", "its coordinator did not decide in time")
            match self._finish_quietly(gid) if state != "trying" or self._outbox is None else None:
                case "confirmed":
                    found.confirmed.append(gid)
                case "cancelled":
                    found.cancelled.append(gid)
                case _:
                    found.waiting.append(gid)
        return found

    def done(self, session: Any, gid: uuid.UUID, branch: str) -> None:
        """A branch has answered a message: note that in the open transaction of a session of the initiator."""
        execute = execute_of(session)
        # One answer after another: otherwise neither of two sees that the other one was the last but it.
        for (state,) in execute(self._sql["locked_state"], (gid,)):
            execute(self._sql["done"], (gid, branch))
            execute(self._sql["finish"], (_ENDED.get(state, state), gid, state, gid))

    def _begin(self, gid: uuid.UUID, calls: Mapping[str, Any]) -> dt.datetime:
        with self._connect() as conn:
            execute = execute_of(conn)
            ((deadline,),) = execute(self._sql["begin"], (gid, self._limit_s))
            for branch, arguments in calls.items():
                execute(self._sql["call"], (gid, branch, Jsonb(arguments)))
        found: dt.datetime = deadline
        return found

    def _decide(
        self, gid: uuid.UUID, state: str, reason: str | None, also: Callable[[Connection], object] = lambda _: None
    ) -> bool:
        """Decide, where nobody has; False where it was decided otherwise, or is too late to confirm."""
        with self._connect() as conn:
            is_ours = bool(execute_of(conn)(self._sql["decide"], (state, reason, gid, state == "cancelling")))
            if is_ours:
                also(conn)
                self._send(conn, gid, state)
        return is_ours

    def _send(self, conn: Connection, gid: uuid.UUID, state: str) -> None:
        """Write the messages of a decision, where they travel as messages."""
        if self._outbox is None:
            return
        kind = "confirm" if state == "confirming" else "cancel"
        for branch, arguments in execute_of(conn)(self._sql["open_calls"], (gid,)):
            body = {"gid": str(gid), "arguments": arguments}
            self._outbox.send(conn, f"tcc.{branch}", gid, kind, body)

    def _go_on(self, gid: uuid.UUID) -> None:
        """After a decision: call the branches, unless messages are on their way to them."""
        if self._outbox is None:
            self._finish_quietly(gid)

    def _finish_quietly(self, gid: uuid.UUID) -> str | None:
        """Do the calls that are left; what fails is left to :meth:`recover`. Returns the state that was reached."""
        try:
            return self._finish(gid)
        except Exception as error:  # the decision stands: whatever went wrong is tried again
            _log.warning("transaction %s is not ended yet: %s", gid, error)
            return None

    def _finish(self, gid: uuid.UUID) -> str | None:
        with self._connect() as conn:
            state = execute_of(conn)(self._sql["state"], (gid,))[0][0]
            calls = execute_of(conn)(self._sql["open_calls"], (gid,))
        for branch, arguments in calls:
            participant = self._participants[branch]
            (participant.confirm if state == "confirming" else participant.cancel)(gid, arguments)
            kill_point("tcc.called")
            with self._connect() as conn:
                execute_of(conn)(self._sql["done"], (gid, branch))
        ended = _ENDED.get(state, state)
        with self._connect() as conn:
            execute_of(conn)(self._sql["finish"], (ended, gid, state, gid))
        return str(ended)


def _cancelled(gid: uuid.UUID, why: str) -> Cancelled:
    return Cancelled(f"transaction {gid} is cancelled: {why}", unchanged="no service keeps a part of it")
