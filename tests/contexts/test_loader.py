from __future__ import annotations

from pathlib import Path

import pytest

from contexts.databases import databases
from contexts.errors import ConfigError, ExitCode, RefusedError
from contexts.loader import expand, load_context, load_contexts, load_project
from contexts.model import Context, Project, TableName
from contexts.scaffold import init

CONTEXT = """
name = "{name}"
[[tables]]
name = "{table}"
[service]
url = "${{SERVICE_URL}}"
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    init(tmp_path)
    return load_project(tmp_path)


def write(project: Project, name: str, text: str = "", *, table: str = "a.b") -> Path:
    path = project.folder / "contexts" / name / "context.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text or CONTEXT.format(name=name, table=table))
    return path


def test_what_init_writes_is_read_and_never_overwritten(tmp_path: Path) -> None:
    path = init(tmp_path, "my contexts")
    assert load_project(tmp_path / "my contexts").contexts_dir == "my contexts"
    text = path.read_text()
    assert "${CARVEOUT_SHARED_URL}" in text
    with pytest.raises(RefusedError, match=r"carveout\.toml: is there already") as refused:
        init(tmp_path)
    assert refused.value.exit_code is ExitCode.REFUSED
    assert path.read_text() == text


def test_without_a_project_the_next_step_is_init(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no carveout\.toml") as error:
        load_project(tmp_path)
    assert error.value.next_step == "carveout init"


def test_a_context_is_loaded_with_its_folder(project: Project) -> None:
    path = write(project, "one")
    context = load_context(project, "one")
    assert (context.folder, context.table_names) == (path.parent, (TableName("a", "b"),))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("colour = 1\n", "colour: unknown key"),
        ("[options]\ncopy_wrokers = 2\n", "options.copy_wrokers: unknown key"),
        ("[options]\ncopy_workers = 99\n", "options.copy_workers"),
        ('[[grants]]\nrole = "r"\nprivileges = ["fly"]\n', "grants.0.privileges.0"),
        ('[[grants]]\nrole = "r"\nprivileges = ["select"]\ntables = ["a.c"]\n', "role 'r' names tables.*a.c"),
        ('[[tables]]\nname = "a.b"\n', "listed twice: a.b"),
        ('[[tables]]\nname = "a.b.c"\n', "tables.1.name.*no table name"),
        ("[[", r"context\.toml"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_its_key(project: Project, change: str, message: str) -> None:
    top, rest = ("", change) if change.startswith("[") else (change, "")
    path = write(project, "one", top + CONTEXT.format(name="one", table="a.b") + rest)
    with pytest.raises(ConfigError, match=message) as error:
        load_contexts(project)
    assert str(path) in error.value.message
    assert error.value.exit_code is ExitCode.USAGE


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "one"\n[service]\nurl = "${X}"\n', "tables: Field required"),
        ('name = "one"\ntables = []\n[service]\nurl = "${X}"\n', "tables: .*at least 1"),
        ('name = "one"\n[[tables]]\nname = "a.b"\n', "service: Field required"),
        (CONTEXT.format(name="Other", table="a.b"), "lower case"),
        (CONTEXT.format(name="other", table="a.b"), "'other' differs from its folder 'one'"),
    ],
)
def test_what_is_missing_or_misnamed_is_refused(project: Project, text: str, message: str) -> None:
    write(project, "one", text)
    with pytest.raises(ConfigError, match=message):
        load_contexts(project)


def test_a_table_has_one_owner(project: Project) -> None:
    write(project, "one")
    write(project, "two", CONTEXT.format(name="two", table="a.b").replace('"a.b"', "'\"a\".b'"))
    with pytest.raises(ConfigError, match=r"two/context\.toml: tables: a\.b already belongs to context 'one'"):
        load_contexts(project)


def test_an_unknown_context_is_answered_with_the_known_ones(project: Project) -> None:
    write(project, "one")
    with pytest.raises(ConfigError, match=r"no context 'two' .*there: one"):
        load_context(project, "two")


@pytest.mark.parametrize(
    "url",
    ["postgresql://app:hunter2@db/x", "host=db password=hunter2", "host=db PASSWORD = hunter2", "postgres://:pw@h/d"],
)
def test_a_password_in_a_file_is_refused_and_not_repeated(project: Project, url: str) -> None:
    write(project, "one", CONTEXT.format(name="one", table="a.b").replace("${SERVICE_URL}", url))
    with pytest.raises(ConfigError, match=r"service\.url: holds a password") as error:
        load_contexts(project)
    assert "hunter2" not in "\n".join(error.value.lines())


def test_variables_come_from_the_environment_or_from_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("from file\n")
    environ = {"PLAIN": "from env", "HIDDEN_FILE": str(secret)}
    assert expand("${PLAIN} ${HIDDEN}!", where="here", environ=environ) == "from env from file!"


def test_a_missing_variable_is_named_with_its_place(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write(project, "one")
    context: Context = load_context(project, "one")
    monkeypatch.delenv("SERVICE_URL", raising=False)
    monkeypatch.setenv("CARVEOUT_SHARED_URL", "postgresql://localhost/x")
    with pytest.raises(ConfigError, match=r"one/context\.toml: service\.url: \$\{SERVICE_URL\} is not set") as error:
        databases(project, context)
    assert "SERVICE_URL_FILE" in error.value.next_step
    monkeypatch.setenv("SERVICE_URL_FILE", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"SERVICE_URL_FILE=.*nowhere: No such file"):
        databases(project, context)


def test_a_url_that_cannot_be_parsed_is_not_repeated(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    write(project, "one")
    monkeypatch.setenv("CARVEOUT_SHARED_URL", "postgresql://u:hunter2@[oops/x")
    with pytest.raises(ConfigError, match=r"carveout\.toml: shared\.url: no libpq URL") as error:
        databases(project, load_context(project, "one"))
    assert "hunter2" not in "\n".join(error.value.lines())


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("plain", TableName("public", "plain")),
        ("a.b", TableName("a", "b")),
        ('"A b"."c""d.e"', TableName("A b", 'c"d.e')),
        ('a."B"', TableName("a", "B")),
    ],
)
def test_table_names_are_parsed_and_shown_alike(text: str, name: TableName) -> None:
    assert TableName.parse(text) == name
    assert TableName.parse(str(name)) == name


@pytest.mark.parametrize("text", ["", "a.b.c", "a b", 'a."b', ".b", "a."])
def test_what_is_no_table_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no table name"):
        TableName.parse(text)
