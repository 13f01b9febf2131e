"""What a transaction asks at the gates as the first thing that it does, in one round trip.

``LOCK TABLE`` comes before the one statement that takes a snapshot. That one also says that the transaction has passed,
which the census asks for, and in lockstep promises to ship: both also hold without a route.

Most transactions find the gate open, so a connection asks the second time with ``NOWAIT``, without touching
``lock_timeout``, and the third time by a prepared statement, since to plan the question costs the server more than to
answer it. Nothing of the answer is kept: the lock and the route are those of this transaction. Where the quick question
fails, whatever the reason, that is the first thing that happened in its transaction: it is rolled back, and the patient
one is asked, which needs nothing that the session may have lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import psycopg

from contexts.names import CONTEXT_NAME
from migrator.shims.link import Link, Rows

#: A connection that loses a prepared statement sooner than this is led by a pooler, or cleared often: it is not tried
#: again.
WORTH_IT = 100


class Question:
    """What passes the gates of some contexts.

    :param wait_limit_s: how long it waits while they are closed.
    """

    def __init__(self, contexts: Sequence[str], wait_limit_s: float) -> None:
        for context in contexts:
            if not CONTEXT_NAME.fullmatch(context):
                raise ValueError(f"{context!r} is no context name")
        gates = ", ".join(f"carveout.gate_{context}" for context in contexts)
        asked, lock_timeout = _asked(contexts), "set_config('lock_timeout', NULL, true)"
        self._name = f"carveout_{hashlib.sha256(asked.encode()).hexdigest()[:16]}"
        lock = f"LOCK TABLE {gates}{{}} IN ACCESS SHARE MODE{{}};"
        # NULL is the session's own lock_timeout.
        limit = f"SET LOCAL lock_timeout = {int(wait_limit_s * 1000)};"
        self._patient = limit + lock.format("", "") + _asked(contexts, lock_timeout)
        # The route's own lock too, for which nobody else would limit the wait.
        quick = lock.format(", carveout.route", " NOWAIT")
        self._first = f"{quick}PREPARE {self._name} AS {asked};EXECUTE {self._name}"
        self._quick = f"{quick}EXECUTE {self._name}"

    def ask(self, link: Link) -> Rows:
        """Begin a transaction with it; returns what :func:`migrator.shims.gate.routes` reads.

        :raises psycopg.Error: as the servers say; nothing else was done in the transaction.
        """
        known = link.known
        if (times := known.get(self._name, 0)) < 1 or not link.idle:
            rows = link.begin(self._patient)
            known.setdefault(self._name, 1 if link.prepares else -1)
            return rows
        try:
            rows = link.begin(self._quick if times > 1 else self._first)
            known[self._name] = times + 1
            return rows
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):  # there is no gate
            raise
        except psycopg.Error as error:
            if link.closed:
                raise
            if not isinstance(error, psycopg.errors.LockNotAvailable):
                known[self._name] = 1 if times > WORTH_IT else -1
            link.run("ROLLBACK")
            return link.begin(self._patient)


def _asked(contexts: Sequence[str], *more: str) -> str:
    # A DBAPI cannot bind parameters in several statements at once; the names are checked.
    names = ", ".join(f"'{context}'" for context in contexts)
    gated = ", ".join([*(f"set_config('carveout.gated_{context}', 'on', true)" for context in contexts), *more])
    return (
        "SELECT r.context, r.open_side, r.mode,"  # noqa: S608
        f" CASE WHEN r.mode = 'lockstep' THEN carveout.lockstep_begin(r.context)::text END, {gated}"
        f" FROM (VALUES (1)) v LEFT JOIN carveout.route r ON r.context IN ({names})"
    )
