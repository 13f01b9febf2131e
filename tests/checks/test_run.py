"""The run as a whole: nothing written, nothing silent, no secrets, and the command's output."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from psycopg import conninfo

from contexts.databases import Database, Databases
from contexts.embedded import Server
from contexts.errors import AccessDenied, ConfigError, DatabaseUnreachable
from contexts.model import Side
from migrator.checks import Severity, registry
from migrator.checks.environment import opened
from tests.checks.conftest import ACCOUNTS, SERVICE, SHARED, Case

ROOT = Path(__file__).parents[2]


def test_every_check_runs_and_a_healthy_pair_has_no_blocker(case: Case) -> None:
    report = case.report()
    assert report.checks == registry.NAMES
    assert {(f.check, f.severity) for f in report.findings} == {("disk", Severity.INFO)}
    assert (report.exit_code, report.next_steps) == (0, ("carveout prepare wallet",))


@pytest.mark.parametrize("major", [14, 17])
def test_every_check_runs_on_other_versions(major: int, new_database: Callable[[int, Side], Database]) -> None:
    case = Case(Databases(new_database(major, SHARED), new_database(major, SERVICE)))
    case.sql(SHARED, "CREATE SCHEMA app", ACCOUNTS)
    report = case.report()
    assert [f for f in report.findings if f.severity is not Severity.INFO] == []
    assert report.checks == registry.NAMES


def test_the_server_refuses_whatever_a_check_would_write(case: Case) -> None:
    with opened(case.project, case.context) as environment:
        for side in (SHARED, SERVICE):
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                environment.connection(side).execute("CREATE TABLE public.t ()")


def test_nothing_is_written_to_either_database(case: Case) -> None:
    case.sql(SHARED, "SELECT pg_switch_wal()")
    before = [_contents(case, side) for side in (SHARED, SERVICE)]
    case.report()
    assert [_contents(case, side) for side in (SHARED, SERVICE)] == before


def _contents(case: Case, side: object) -> list[tuple[object, ...]]:
    where = SHARED if side is SHARED else SERVICE
    objects = "SELECT 'class', oid::text FROM pg_class UNION ALL SELECT 'proc', oid::text FROM pg_proc"
    others = "SELECT 'slot', slot_name FROM pg_replication_slots UNION ALL SELECT 'pub', pubname FROM pg_publication"
    return sorted(case.sql(where, f"{objects} UNION ALL {others}"))


def test_a_check_that_may_not_read_is_a_blocker(case: Case, role: Callable[..., str]) -> None:
    case.sql(SERVICE, "CREATE SCHEMA app", ACCOUNTS)
    case.connect_as(SERVICE, role("checks_mover"))
    found = case.only("target_rows")
    assert found.severity is Severity.BLOCKER
    assert found.message == "the check could not be made: permission denied for schema app"


def test_a_check_that_waits_for_a_lock_gives_up_and_says_so(case: Case) -> None:
    case.sql(SERVICE, "CREATE SCHEMA app", ACCOUNTS)
    with psycopg.connect(case.databases.service.url) as conn:
        conn.execute("LOCK TABLE app.accounts")
        assert "lock timeout" in case.only("target_rows").message


def test_a_failing_check_does_not_stop_the_others(case: Case, role: Callable[..., str]) -> None:
    case.sql(SERVICE, "CREATE SCHEMA app", ACCOUNTS)
    case.connect_as(SERVICE, role("checks_mover"))
    found = case.report("replica_role", "target_rows", "keys", "tables").findings
    assert {f.check for f in found} == {"replica_role", "target_rows"}


def test_unknown_names_are_refused_with_those_that_exist(case: Case) -> None:
    with pytest.raises(ConfigError, match=r"no check 'kees' \(there: .*keys"):
        case.report("kees")
    assert case.report("wal-level").checks == ("wal_level",)


def test_a_server_that_does_not_answer(case: Case) -> None:
    url = conninfo.make_conninfo(case.databases.service.url, port=1, password="hunter2")
    case.databases = Databases(case.databases.shared, Database(SERVICE, url))
    with pytest.raises(DatabaseUnreachable) as caught:
        case.report()
    assert "hunter2" not in "\n".join(caught.value.lines())


def test_a_role_that_may_not_log_in(case: Case, role: Callable[..., str]) -> None:
    case.connect_as(SHARED, role("checks_mover", "NOLOGIN"))
    with pytest.raises((AccessDenied, DatabaseUnreachable), match="not permitted to log in"):
        case.report()


@pytest.fixture
def project_folder(case: Case, tmp_path: Path) -> Path:
    """The case as the files that a user has; the URLs come from the environment."""
    (tmp_path / "carveout.toml").write_text('[shared]\nurl = "${CHECKS_SHARED}"\n')
    folder = tmp_path / "contexts" / "wallet"
    folder.mkdir(parents=True)
    (folder / "context.toml").write_text(
        'name = "wallet"\n[service]\nurl = "${CHECKS_SERVICE}"\n[[tables]]\nname = "app.accounts"\n'
    )
    return tmp_path


def command(case: Case, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"CHECKS_SHARED": case.databases.shared.url, "CHECKS_SERVICE": case.databases.service.url}
    return subprocess.run(
        [sys.executable, str(ROOT / "migrate.py"), "check", *arguments],
        cwd=folder, env={"PATH": "/usr/bin:/bin", **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_command_ends_with_0_without_blockers(case: Case, project_folder: Path) -> None:
    done = command(case, project_folder, "wallet")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{len(registry.NAMES)} checks of context wallet; blockers: 0, warnings: 0, infos: 2" in done.stdout
    assert done.stdout.endswith("next: carveout prepare wallet\n")


def test_the_command_ends_with_4_and_shows_the_fix(case: Case, project_folder: Path) -> None:
    case.sql(SHARED, "ALTER TABLE app.accounts SET UNLOGGED", "CREATE VIEW app.v AS SELECT * FROM app.accounts")
    done = command(case, project_folder, "wallet", "--only", "views", "--only", "tables")
    assert done.returncode == 4
    lines = done.stdout.splitlines()
    assert lines[0].startswith("blocker: app.accounts on the shared side: is unlogged")  # blockers first
    assert lines[1] == '    ALTER TABLE "app"."accounts" SET LOGGED;'
    assert "2 checks of context wallet; blockers: 1, warnings: 1, infos: 0" in done.stdout


def test_the_json_shape(case: Case, project_folder: Path) -> None:
    case.sql(SHARED, "ALTER TABLE app.accounts SET UNLOGGED")
    done = command(case, project_folder, "wallet", "--only", "tables", "--json")
    assert done.returncode == 4
    assert json.loads(done.stdout) == {
        "version": 1,
        "command": "check",
        "context": "wallet",
        "checks": ["tables"],
        "counts": {"blocker": 1, "warning": 0, "info": 0},
        "findings": [
            {
                "check": "tables",
                "severity": "blocker",
                "side": "shared",
                "object": "app.accounts",
                "message": "is unlogged: its changes are in no stream",
                "fix": 'ALTER TABLE "app"."accounts" SET LOGGED;',
            }
        ],
        "next_steps": ["carveout check wallet"],
    }


@pytest.mark.parametrize(("arguments", "code"), [(("nothing",), 2), (("wallet", "--only", "kees"), 2)])
def test_wrong_usage_is_2_without_a_traceback(
    case: Case, project_folder: Path, arguments: tuple[str, ...], code: int
) -> None:
    done = command(case, project_folder, *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("error: ")


def test_a_server_that_is_down_is_1_without_a_traceback(
    case: Case, project_folder: Path, servers: Callable[[int], Server]
) -> None:
    case.databases = Databases(case.databases.shared, Database(SERVICE, "postgresql://x:hunter2@127.0.0.1:1/x"))
    done = command(case, project_folder, "wallet")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: service database (x@127.0.0.1:1/x)")
    assert "hunter2" not in done.stderr
    assert "Traceback" not in done.stderr


def test_help_does_not_load_the_checks() -> None:
    code = "import sys; from click.testing import CliRunner; from migrator.cli import cli;"
    code += "r = CliRunner().invoke(cli, ['--help']); assert 'check' in r.output, r.output;"
    code += "sys.exit('psycopg' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
