"""A shim written from docs/howto/lockstep.md alone, behind the line protocol of the conformance test.

It imports nothing of Carveout: what it does, a shim in another language can do.
"""

import contextlib
import os
import sys
import threading
from typing import Any

import psycopg

CONTEXT = os.environ["CARVEOUT_CONTEXT"]
URLS = {"shared": os.environ["CARVEOUT_SHARED_URL"], "service": os.environ["CARVEOUT_SERVICE_URL"]}
#: Where the harness wants to look on, or to kill.
STOP_AT = os.environ.get("CARVEOUT_STOP_AT")
ENTER = (
    "SET LOCAL lock_timeout = 10000;"
    f"LOCK TABLE carveout.gate_{CONTEXT} IN ACCESS SHARE MODE;"
    "SET LOCAL lock_timeout TO DEFAULT;"
    f"SET LOCAL carveout.gated_{CONTEXT} = 'on';"
    f"SELECT open_side, mode, CASE WHEN mode = 'lockstep' THEN carveout.lockstep_begin('{CONTEXT}')::text END"
    f" FROM carveout.route WHERE context = '{CONTEXT}'"
)


def stop_at(name: str) -> None:
    if name == STOP_AT:
        print("at", name, flush=True)
        sys.stdin.readline()


class Shim:
    def __init__(self) -> None:
        self.open: dict[str, Any] = {}
        self.side, self.mode, self.inside = "shared", "single", False

    def connection(self, name: str, side: str) -> Any:
        """A connection in autocommit: BEGIN and COMMIT are ours."""
        if name not in self.open or self.open[name].closed:
            self.open[name] = psycopg.connect(URLS[side], autocommit=True)
            if name == "shipping":
                self.open[name].execute("SELECT carveout.lockstep_session()")
        return self.open[name]

    def begin(self) -> None:
        for _ in range(100):
            conn = self.connection(self.side, self.side)
            conn.execute("BEGIN")
            cursor = conn.execute(ENTER)
            while cursor.nextset():
                pass
            side, self.mode, _ = cursor.fetchone()
            if side == self.side:
                self.inside = True
                return
            conn.execute("ROLLBACK")
            self.side = side
        raise RuntimeError("no side has let the transaction in")

    def execute(self, statement: str) -> None:
        self.must_be_inside()
        self.connection(self.side, self.side).execute(statement)

    def commit(self) -> None:
        self.must_be_inside()
        shared = self.connection(self.side, self.side)
        gid = None
        if self.mode == "lockstep":
            shared.execute("SET CONSTRAINTS ALL IMMEDIATE")
            parts = shared.execute(f"SELECT gid, payload FROM carveout.lockstep_collect_{CONTEXT}()").fetchall()
            stop_at("collected")
            if parts:
                gid = parts[0][0]
                self.ship(gid, parts)
                stop_at("prepared")
        self.decide(shared, gid)
        self.inside = False
        if gid:
            stop_at("decided")
            self.settle(gid)

    def ship(self, gid: str, parts: list[Any]) -> None:
        while True:
            service = self.connection("shipping", "service")
            try:
                service.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
                service.execute("SET LOCAL lock_timeout = 10000")
                for part in parts:
                    service.execute(f"SELECT carveout.lockstep_apply_{CONTEXT}(%s, %s)", part)
                service.execute(f"PREPARE TRANSACTION '{gid}'")
                return
            except psycopg.errors.ObjectNotInPrerequisiteState:  # 55000: not yet
                service.execute("ROLLBACK")
                threading.Event().wait(0.02)
            except psycopg.Error:
                service.close()
                raise

    def decide(self, shared: Any, gid: str | None) -> None:
        try:
            if shared.execute("COMMIT").statusmessage != "COMMIT":
                raise RuntimeError("the transaction had failed and was rolled back")
        except psycopg.Error as error:
            if gid and error.sqlstate and not shared.closed:
                self.connection("shipping", "service").execute(f"ROLLBACK PREPARED '{gid}'")
            raise

    def settle(self, gid: str) -> None:
        with contextlib.suppress(psycopg.Error):  # the worker does it, then
            self.connection("shipping", "service").execute(f"COMMIT PREPARED '{gid}'")

    def rollback(self) -> None:
        self.inside = False
        conn = self.connection(self.side, self.side)
        if conn.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            conn.execute("ROLLBACK")

    def must_be_inside(self) -> None:
        if not self.inside:
            raise RuntimeError("there is no transaction")


def main() -> None:
    shim = Shim()
    for line in sys.stdin:
        word, _, rest = line.rstrip("\n").partition(" ")
        try:
            if word == "quit":
                return
            getattr(shim, word)(*([rest] if rest else []))
            print("ok", flush=True)
        except Exception as error:
            if word in ("begin", "commit"):
                shim.rollback()
            print("error", " ".join(str(error).split()), flush=True)


if __name__ == "__main__":
    main()
