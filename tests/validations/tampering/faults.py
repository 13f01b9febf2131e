"""The faults: where and how each is planted, and the check that must find it, by which key."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One corruption."""

    name: str
    #: ``service`` or ``shared``: around the stream, on that side. ``stream``: a transaction of the application.
    #: ``lost``: one that the stream does not carry.
    where: str
    how: tuple[str, ...]
    #: The check that must find it.
    check: str
    #: What that check must name.
    key: str
    #: How it is taken back, where putting the service side's rows back is not enough.
    undo: tuple[str, ...] = ()


def _row(name: str, how: str, key: str, check: str = "rows") -> Fault:
    """A fault in the rows of the service side."""
    return Fault(name, "service", (how,), check, key)


def _account(name: str, change: str, account: int = 7) -> Fault:
    return _row(name, f"UPDATE vault.account SET {change} WHERE id = {account}", f"vault.account {account} different")


def _paper(name: str, change: str) -> Fault:
    return _row(name, f"UPDATE vault.paper SET {change} WHERE id = 9", "vault.paper 9 different")


_CUTS = (
    "SELECT (jsonb_array_elements(extent -> 'cuts') ->> 0)::bigint FROM carveout.verification_segment"
    " WHERE table_name = 'entry' AND verification = (SELECT max(id) FROM carveout.verification)"
)
_BOUNDS = "SELECT lower[1]::bigint FROM carveout.copy_part WHERE table_name = 'entry' AND lower IS NOT NULL"
_SWAP = (
    "UPDATE vault.account a SET {0} = o.{0} FROM saved.account o"
    " WHERE a.id IN (11, 12) AND o.id IN (11, 12) AND a.id <> o.id"
)

ROWS = (
    _account("a lost update", "balance = balance - 1"),
    _account("one cent too much", "balance = balance + 0.01"),
    _row("one cent moved between two accounts",
         "UPDATE vault.account SET balance = balance + CASE id WHEN 5 THEN 0.01 ELSE -0.01 END WHERE id IN (5, 6)",
         "vault.account 5 different"),
    _row("the balances of two rows swapped", _SWAP.format("balance"), "vault.account 12 different"),
    _row("the owners of two rows swapped", _SWAP.format("owner"), "vault.account 11 different"),
    _row("an entry doubled",
         "INSERT INTO vault.entry SELECT id + 5, tx, account, amount, currency FROM vault.entry WHERE id = 501",
         "vault.entry 506 missing_on_open"),
    _row("a transaction doubled",
         "INSERT INTO vault.entry SELECT id + 5, tx, account, amount, currency FROM vault.entry WHERE id IN (501, 502)",
         "vault.entry 507 missing_on_open"),
    _row("a row in a gap of the sequence", "INSERT INTO vault.entry VALUES (9, 'ghost', 3, 0, 'EUR')",
         "vault.entry 9 missing_on_open"),
    _row("one entry missing", "DELETE FROM vault.entry WHERE id = 7001", "vault.entry 7001 missing_on_closed"),
    _row("one transaction missing", "DELETE FROM vault.entry WHERE tx = 'tx 700'",
         "vault.entry 7002 missing_on_closed"),
    _row("the first row missing", "DELETE FROM vault.entry WHERE id = 11", "vault.entry 11 missing_on_closed"),
    _row("a truncated tail", "DELETE FROM vault.entry WHERE id > 149900", "vault.entry 150002 missing_on_closed"),
    _row("rows missing at the cuts of the comparison", f"DELETE FROM vault.entry WHERE id IN ({_CUTS})",
         "missing_on_closed"),
    _row("rows missing at the bounds of the copied parts", f"DELETE FROM vault.entry WHERE id IN ({_BOUNDS})",
         "missing_on_closed"),
    _row("all rows of a table missing", "DELETE FROM vault.paper", "vault.paper 40 missing_on_closed"),
    _row("an entry under another key", "UPDATE vault.entry SET id = 15 WHERE id = 12",
         "vault.entry 12 missing_on_closed"),
    _row("an entry in another account", "UPDATE vault.entry SET account = 9 WHERE id = 302",
         "vault.entry 302 different"),
    _row("an entry in another currency", "UPDATE vault.entry SET currency = 'USD' WHERE id = 302",
         "vault.entry 302 different"),
    _account("an old version of a row restored", "balance = 0, version = 0"),
    _account("a lost fraction digit", "rate = 1.5"),
    _account("the wrong zone by one hour", "opened_at = opened_at + interval '1 hour'"),
    _account("a trailing blank", "owner = owner || ' '"),
    _account("empty for NULL", "note = ''"),
    _row("NULL for empty", "UPDATE vault.point SET memo = NULL WHERE id = 3", "vault.point 3 different"),
    _row("a memo lost", "UPDATE vault.point SET memo = NULL WHERE id = 4", "vault.point 4 different"),
    _row("points confirmed twice",
         "INSERT INTO vault.point SELECT 99, payment, points, state, settlement, memo FROM vault.point WHERE id = 4",
         "points_once: payment 4", "invariants"),
    _row("a settlement lost", "UPDATE vault.point SET settlement = NULL WHERE id = 8", "settled: 8", "invariants"),
    _row("an orphan across the boundary", "UPDATE vault.point SET payment = 'nobody' WHERE id = 10", "nobody",
         "references"),
    _paper("the key order of json", "doc = '{\"a\": 2, \"b\": 1}'"),
    _paper("one byte of a bytea", "raw = '\\x00fe00'"),
    _paper("an array's NULL", "tags = '{a,\"NULL\"}'"),
    _paper("a microsecond", "at = at - interval '1 microsecond'"),
)  # fmt: skip

AROUND = (
    Fault("an index missing", "service", ("DROP INDEX vault.entry_account",), "schema", "entry_account",
          ("CREATE INDEX entry_account ON vault.entry (account)",)),
    Fault("a check constraint missing", "service", ("ALTER TABLE vault.account DROP CONSTRAINT solvent",), "schema",
          "solvent",
          ("ALTER TABLE vault.account ADD CONSTRAINT solvent CHECK ((balance >= (0)::numeric) OR (id = 1))",)),
    Fault("a foreign key missing", "service", ("ALTER TABLE vault.entry DROP CONSTRAINT entry_account_fkey",), "schema",
          "entry_account_fkey",
          ("ALTER TABLE vault.entry ADD CONSTRAINT entry_account_fkey FOREIGN KEY (account)"
           " REFERENCES vault.account(id)",)),
    Fault("a wrong default", "service", ("ALTER TABLE vault.point ALTER state SET DEFAULT 'confirmed'",), "schema",
          "state", ("ALTER TABLE vault.point ALTER state SET DEFAULT 'pending'",)),
    Fault("a NOT NULL missing", "service", ("ALTER TABLE vault.point ALTER payment DROP NOT NULL",), "schema",
          "payment", ("ALTER TABLE vault.point ALTER payment SET NOT NULL",)),
    Fault("a narrower type", "service", ("ALTER TABLE vault.point ALTER memo TYPE varchar(30)",), "schema", "memo",
          ("ALTER TABLE vault.point ALTER memo TYPE text",)),
    Fault("another collation", "service", ('ALTER TABLE vault.account ALTER owner TYPE text COLLATE "C"',), "schema",
          "owner", ('ALTER TABLE vault.account ALTER owner TYPE text COLLATE "default"',)),
    Fault("a trigger missing", "service", ("DROP TRIGGER touched ON vault.account",), "triggers", "touched",
          ("CREATE TRIGGER touched BEFORE UPDATE ON vault.account FOR EACH ROW EXECUTE FUNCTION vault.touch()",)),
    Fault("an index missing on the shared side", "shared", ("DROP INDEX vault.entry_account",), "schema",
          "entry_account", ("CREATE INDEX entry_account ON vault.entry (account)",)),
    Fault("a wrong step of a sequence", "service", ("ALTER SEQUENCE vault.entry_id_seq INCREMENT BY 7",), "sequences",
          "vault.entry.id", ("ALTER SEQUENCE vault.entry_id_seq INCREMENT BY 1",)),
    Fault("a grant missing", "service", ("REVOKE UPDATE ON vault.account FROM tampering_app",), "grants",
          "vault.account", ("GRANT UPDATE ON vault.account TO tampering_app",)),
    Fault("a grant missing on the shared side", "shared", ("REVOKE INSERT ON vault.entry FROM tampering_app",),
          "grants", "vault.entry", ("GRANT INSERT ON vault.entry TO tampering_app",)),
    Fault("a version lost", "service", ("CREATE TABLE saved.lost AS SELECT * FROM vault.point_versions"
          " WHERE operation = 'baseline' AND new ->> 'id' = '6'",
          "DELETE FROM vault.point_versions WHERE operation = 'baseline' AND new ->> 'id' = '6'"), "versions",
          "vault.point: 6", ("INSERT INTO vault.point_versions SELECT * FROM saved.lost", "DROP TABLE saved.lost")),
)  # fmt: skip

STREAM = (
    Fault("an unbalanced transaction", "stream", ("INSERT INTO vault.entry VALUES (7, 'odd', 3, 0.01, 'EUR')",),
          "rules", "double_entry: odd EUR", ("DELETE FROM vault.entry WHERE id = 7",)),
    Fault("a transaction in mixed currencies", "stream",
          ("INSERT INTO vault.entry VALUES (7, 'mix', 3, 1, 'EUR'), (8, 'mix', 3, -1, 'USD')",), "rules",
          "double_entry: mix USD", ("DELETE FROM vault.entry WHERE id IN (7, 8)",)),
    Fault("a ledger entry changed", "stream", ("UPDATE vault.entry SET amount = amount + 1 WHERE id = 301",), "rules",
          "ledger: 301", ("UPDATE vault.entry SET amount = amount - 1 WHERE id = 301",)),
    Fault("a ledger transaction deleted", "stream",
          ("CREATE TABLE shop.kept AS SELECT * FROM vault.entry WHERE tx = 'tx 31'",
           "DELETE FROM vault.entry WHERE tx = 'tx 31'"), "rules", "ledger: 311",
          ("INSERT INTO vault.entry SELECT * FROM shop.kept", "DROP TABLE shop.kept")),
    Fault("a state that goes back", "stream",
          ("UPDATE vault.point SET state = 'pending', settlement = NULL WHERE id = 2",),
          "rules", "states: 2",
          ("UPDATE vault.point SET state = 'confirmed', settlement = 'settlement 2' WHERE id = 2",)),
    Fault("points that are born confirmed", "stream",
          ("INSERT INTO vault.point VALUES (70, 'payment 1', 1, 'confirmed', 's', NULL)",), "rules", "states: 70",
          ("DELETE FROM vault.point WHERE id = 70",)),
    Fault("confirmed without a settlement", "stream", ("UPDATE vault.point SET state = 'confirmed' WHERE id = 1",),
          "rules", "settled: 1", ("UPDATE vault.point SET state = 'pending' WHERE id = 1",)),
    Fault("an amount of points changed", "stream", ("UPDATE vault.point SET points = points + 1 WHERE id = 5",),
          "rules", "points: 5", ("UPDATE vault.point SET points = points - 1 WHERE id = 5",)),
    Fault("a version that goes down", "stream", ("UPDATE vault.account SET version = 0 WHERE id = 20",), "rules",
          "version: 20", ("UPDATE vault.account SET version = 1 WHERE id = 20",)),
    Fault("a balance without its entry", "stream", ("UPDATE vault.account SET balance = balance + 5 WHERE id = 21",),
          "invariants", "balance: 21", ("UPDATE vault.account SET balance = balance - 5 WHERE id = 21",)),
    Fault("a payment deleted under its points", "stream", ("DELETE FROM shop.payment WHERE id = 'payment 13'",),
          "references", "payment 13", ("INSERT INTO shop.payment VALUES ('payment 13')",)),
    Fault("a consistent change of what nobody forbids", "stream", ("UPDATE vault.point SET memo = 'x' WHERE id = 7",),
          "nothing", "", ("UPDATE vault.point SET memo = 'memo 7' WHERE id = 7",)),
    Fault("a change that the stream does not carry", "lost",
          ("UPDATE vault.point SET memo = 'unseen' WHERE id = 11",), "rows", "vault.point 11 different",
          ("UPDATE vault.point SET memo = 'memo 11' WHERE id = 11",)),
    Fault("a transition back that the stream does not carry", "lost",
          ("UPDATE vault.point SET state = 'pending', settlement = NULL WHERE id = 12",), "rows",
          "vault.point 12 different",
          ("UPDATE vault.point SET state = 'confirmed', settlement = 'settlement 12' WHERE id = 12",)),
)  # fmt: skip

FAULTS = ROWS + AROUND + STREAM
