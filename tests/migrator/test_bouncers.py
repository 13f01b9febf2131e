"""Two PgBouncers in front of a bank: killed, down, hung or with a wrong password, the switch puts both right."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from contexts.databases import Databases
from contexts.errors import NeedsHuman, RefusedError
from contexts.model import Side
from migrator.switch.blockers import Blocked
from migrator.traffic import console, inifile
from migrator.traffic.driver import TrafficBroken
from migrator.traffic.traffic import Traffic
from tests.bouncer import ADMIN_PASSWORD, PgBouncerProcess, declaration, port
from tests.conftest import server_folder
from tests.migrator.clients import Clients
from tests.migrator.commands import run, run_killed_at
from tests.migrator.driving import at_point, switch
from tests.migrator.moving import Bank
from tests.migrator.payments import the_open_side
from tests.waiting import wait_until

OPTIONS = (
    "max_lag_s = 60\n"
    "batch_age_ms = 20\nswitch_deadline_ms = 8000\nwrite_block_budget_ms = 8000\nhold_patience_s = 0.5\n"
)
BACK = ("traffic.one_paused", "switch.gate_closed", "traffic.file_written", "traffic.reloaded", "switch.repointed")
FORWARD = ("switch.committed", "traffic.one_resumed")


@dataclass
class Place:
    """A bank that streams and is proven, and the PgBouncers in front of it."""

    bank: Bank
    bouncers: dict[str, PgBouncerProcess]
    declared: str

    def assert_all_lead_to(self, side: Side) -> None:
        assert the_open_side(self.bank) is side
        for one in self.bouncers.values():
            assert one.shows("bank") == (port(self.bank.both[side]), False), one.name

    def declare(self, more: str) -> None:
        """Let the context declare this alone."""
        path = self.bank.folder / "contexts" / "bank" / "context.toml"
        path.write_text(self.declared + more)

    def declare_both(self) -> None:
        self.declare("".join(declaration(one) for one in self.bouncers.values()))

    def prove(self) -> None:
        self.bank.await_streaming()
        run(self.bank, "verify", "bank")


@pytest.fixture(scope="module")
def shared_place(tmp_path_factory: pytest.TempPathFactory, module_pair: Databases) -> Iterator[Place]:
    bank = Bank.create(tmp_path_factory.mktemp("bouncers"), module_pair, options=OPTIONS)
    declared = (bank.folder / "contexts" / "bank" / "context.toml").read_text()
    with server_folder() as folder, ExitStack() as stack:
        both = {
            name: stack.enter_context(PgBouncerProcess(folder / name, name, {"bank": module_pair.shared}))
            for name in ("a", "b")
        }
        bank.environment |= {f"BOUNCER_{name.upper()}": one.admin_url for name, one in both.items()}
        bank.expand_variables()
        made = Place(bank, both, declared)
        run(bank, "prepare", "bank", "--skip-check")
        stack.enter_context(bank.worker())
        made.prove()
        yield made


@pytest.fixture
def place(shared_place: Place) -> Iterator[Place]:
    """Every test leaves the shared side open and proven, with both PgBouncers leading there."""
    shared_place.declare_both()
    yield shared_place
    shared_place.assert_all_lead_to(Side.SHARED)
    shared_place.bank.await_streaming()


def test_killed_at_every_point_no_client_sees_an_error(place: Place) -> None:
    bank, before = place.bank, {name: one.file.read_bytes() for name, one in place.bouncers.items()}
    with Clients.of(list(place.bouncers.values())) as clients:
        for point in BACK:
            run_killed_at(bank, point, "cutover", "bank")
            assert "the switch was undone" in run(bank, "resume", "bank").out
            place.assert_all_lead_to(Side.SHARED)
            assert {name: one.file.read_bytes() for name, one in place.bouncers.items()} == before
            clients.assert_paying()
            bank.await_streaming()
        for point in FORWARD:
            for verb, side in (("cutover", Side.SERVICE), ("rollback", Side.SHARED)):
                place.prove()
                run_killed_at(bank, point, verb, "bank")
                assert "the switch was finished" in run(bank, "resume", "bank").out
                place.assert_all_lead_to(side)
                clients.assert_paying()
        place.prove()
    assert clients.errors == []
    bank.await_equal()
    for side in Side:
        clients.assert_kept(bank, side)


def test_what_keeps_one_from_its_part_is_found_before_anybody_waits(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    b, right = place.bouncers["b"], place.bouncers["b"].admin_url
    text = b.file.read_text()

    def refused() -> str:
        said = run(place.bank, "cutover", "bank", expect=4).err
        assert ADMIN_PASSWORD not in said
        assert "secret-but-wrong" not in said
        assert "nothing was changed, the shared side is open" in said
        return said

    place.bank.environment["BOUNCER_B"] = right.replace(ADMIN_PASSWORD, "secret-but-wrong")
    assert "PgBouncer b: connection" in (said := refused())
    assert "password authentication failed" in said or "SASL authentication failed" in said
    place.bank.environment["BOUNCER_B"] = right.replace("admin:", "postgres:").replace(ADMIN_PASSWORD, "client-secret")
    assert "PgBouncer b" in refused()
    place.bank.environment["BOUNCER_B"] = right
    b.file.write_text(text.replace("bank = host=127.0.0.1", "bank = host=127.0.0.2"))
    assert "'bank' leads elsewhere than the running PgBouncer does" in refused()
    b.file.write_text(text.replace("bank =", "vault ="))
    assert "has no line for the entry 'bank'" in refused()
    b.file.write_text(text)
    b.stop()
    assert "Connection refused" in refused()
    b.start()


@pytest.mark.parametrize(("point", "side"), [("switch.fenced", Side.SHARED), ("switch.opened", Side.SERVICE)])
def test_one_that_dies_in_the_middle(place: Place, monkeypatch: pytest.MonkeyPatch, point: str, side: Side) -> None:
    b = place.bouncers["b"]
    at_point(monkeypatch, point, b.stop)
    with Clients.of([place.bouncers["a"]]) as clients:
        with pytest.raises(NeedsHuman, match=rf"the {side} side is open, but .* must be repaired: PgBouncer b: "):
            switch(place.bank, Side.SERVICE)
        assert place.bouncers["a"].shows("bank") == (port(place.bank.both[side]), False)
        clients.assert_paying()
        assert "must be repaired: PgBouncer b" in run(place.bank, "resume", "bank", expect=5).err
        b.start()
        assert f"the {side} side is open" in run(place.bank, "resume", "bank").out
        place.assert_all_lead_to(side)
        if side is Side.SERVICE:
            place.prove()
            run(place.bank, "rollback", "bank")
            place.prove()
    assert clients.errors == []


def test_one_that_hangs_in_the_middle(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    b = place.bouncers["b"]
    monkeypatch.setattr(console, "ANSWER_S", 0.5)
    at_point(monkeypatch, "switch.gate_closed", lambda: b.send(signal.SIGSTOP))
    with pytest.raises(NeedsHuman, match=r"the shared side is open, but .* PgBouncer b"):
        switch(place.bank, Side.SERVICE)
    assert place.bouncers["a"].shows("bank") == (port(place.bank.both.shared), False)
    b.send(signal.SIGCONT)
    assert "the switch was undone" in run(place.bank, "resume", "bank").out


def test_a_console_answers_in_a_process_of_many_descriptors(place: Place) -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(most[0], min(2048, most[1])), most[1]))
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, most)
        while stack.enter_context(open(os.devnull)).fileno() < 1024:
            pass
        asked = console.Console("a", place.bouncers["a"].admin_url)
        stack.callback(asked.close)
        assert "bank" in asked.databases()


def test_a_file_that_is_not_repointed_is_noticed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inifile, "pointed", lambda text, *_: text)
    with pytest.raises(TrafficBroken, match="'bank' does not lead to the service side after RELOAD"):
        switch(place.bank, Side.SERVICE)


def test_a_resume_before_the_decision_is_noticed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    repoint = Traffic.repoint

    def and_release(self: Traffic, deadline: float) -> None:
        repoint(self, deadline)
        self.release(self.to_side)

    monkeypatch.setattr(Traffic, "repoint", and_release)
    with Clients.of(list(place.bouncers.values())) as clients:
        clients.assert_paying()
        at_point(monkeypatch, "switch.repointed", lambda: wait_until(lambda: bool(clients.errors)))
        switch(place.bank, Side.SERVICE)
    assert all("closed for writes" in error for _, error in clients.errors)
    monkeypatch.undo()
    place.prove()
    run(place.bank, "rollback", "bank")
    place.prove()


def test_a_session_that_stays_is_named_or_connects_anew(place: Place) -> None:
    bank = place.bank
    with ExitStack() as stack:
        folder = stack.enter_context(server_folder())
        c = PgBouncerProcess(folder / "c", "c", {"bank": bank.both.shared}, pool_mode="session")
        stack.enter_context(c)
        bank.environment["BOUNCER_C"] = c.admin_url
        bank.expand_variables()
        conn = stack.enter_context(psycopg.connect(c.url("bank"), autocommit=True, application_name="till"))
        pid = conn.execute("SELECT pg_backend_pid()").fetchone()
        assert pid
        place.declare(declaration(c))
        with pytest.raises(Blocked, match=rf"clients of 'bank' did not let go in time: pid {pid[0]} \(postgres, till"):
            switch(bank, Side.SERVICE)
        assert c.shows("bank") == (port(bank.both.shared), False)
        place.declare(declaration(c, how="reconnect"))
        switch(bank, Side.SERVICE)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction, match="closed for writes"):
            conn.execute("DELETE FROM bank.entry WHERE false")
        with psycopg.connect(c.url("bank"), autocommit=True) as anew:
            anew.execute("DELETE FROM bank.entry WHERE false")
        conn.close()
        place.prove()
        run(bank, "rollback", "bank")
        place.prove()


@pytest.fixture
def hooks(place: Place, tmp_path: Path) -> Callable[[str], str]:
    """``hooks("on_switch")``: declares hooks that write down what they are told; that one ends with 3."""

    def declare(veto: str) -> str:
        script, log = tmp_path / "hook.py", tmp_path / "log"
        script.write_text(
            f"import os, sys\nhook = os.environ['CARVEOUT_HOOK']\n"
            f"print(hook, os.environ['CARVEOUT_SIDE'], os.environ['CARVEOUT_PORT'], file=open({str(log)!r}, 'a'))\n"
            f"print('no, ' + hook)\nsys.exit(3 * (hook == {veto!r} and os.environ['CARVEOUT_SIDE'] == 'service'))\n"
        )
        command = f'["{sys.executable}", "{script}"]'
        names = ("on_pause", "on_switch", "on_resume")
        place.declare("\n[traffic.hooks]\n" + "\n".join(f"{name} = {command}" for name in names) + "\n")
        return str(log)

    return declare


def test_hooks_are_told_and_may_veto(place: Place, hooks: Callable[[str], str]) -> None:
    ports = {side: port(place.bank.both[side]) for side in Side}
    log = Path(hooks("on_switch"))
    failed = run(place.bank, "cutover", "bank", expect=1).err
    assert "on_switch of bank" in failed
    assert "ended with 3: no, on_switch" in failed
    assert place.bank.state() == "streaming"
    back = [f"on_switch shared {ports[Side.SHARED]}", f"on_resume shared {ports[Side.SHARED]}"]
    first = [f"on_pause shared {ports[Side.SHARED]}", f"on_switch service {ports[Side.SERVICE]}"]
    assert log.read_text().splitlines() == first + back
    log.unlink()
    hooks("on_resume")
    assert "must be repaired: on_resume" in run(place.bank, "cutover", "bank", expect=5).err
    assert the_open_side(place.bank) is Side.SERVICE
    hooks("none")
    assert "the switch was finished" in run(place.bank, "resume", "bank").out
    place.declare("")
    place.prove()
    run(place.bank, "rollback", "bank")
    place.prove()


def test_a_hook_that_is_no_command_is_found_before(place: Place) -> None:
    place.declare('\n[traffic.hooks]\non_pause = ["/no/such/command"]\n')
    with pytest.raises(RefusedError, match="on_pause of bank: '/no/such/command' is no command here"):
        switch(place.bank, Side.SERVICE)
