"""Reads ``carveout.toml`` and ``contexts/<name>/context.toml``; every refusal names the file and the key."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from contexts.errors import ConfigError
from contexts.model import Context, Hooks, PgBouncer, Project, TableName, Traffic

PROJECT_FILE = "carveout.toml"
CONTEXT_FILE = "context.toml"
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_LITERAL_PASSWORD = re.compile(r"(?i)(password\s*=\s*[^\s$])|(://[^/@:]*:[^@/$]+@)")
_M = TypeVar("_M", bound=BaseModel)
_V = TypeVar("_V")


def load_project(start: Path | None = None) -> Project:
    """Find ``carveout.toml`` in ``start`` (default: here) or a folder above it, and read it.

    :raises ConfigError: no such file, or it cannot be used.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        path = folder / PROJECT_FILE
        if path.is_file():
            return _read(path, Project).model_copy(update={"folder": folder})
    raise ConfigError(f"no {PROJECT_FILE} in {here} or above it", next_step="carveout init")


def load_contexts(project: Project) -> dict[str, Context]:
    """All contexts of the project by name, with no table owned twice.

    :raises ConfigError: a file cannot be used, or two contexts claim one table.
    """
    root = project.folder / project.contexts_dir
    files = sorted(root.glob(f"*/{CONTEXT_FILE}"))
    loaded = {context.name: context for context in (_load_context(path, project) for path in files)}
    owners: dict[TableName, str] = {}
    for context in loaded.values():
        for table in context.table_names:
            if (owner := owners.setdefault(table, context.name)) != context.name:
                raise ConfigError(
                    f"{context.folder / CONTEXT_FILE}: tables: {table} already belongs to context {owner!r}",
                    next_step="leave the table to one context",
                )
    return loaded


def load_context(project: Project, name: str) -> Context:
    """The context ``name``.

    :raises ConfigError: no such context; the message lists those that exist.
    """
    loaded = load_contexts(project)
    if name not in loaded:
        known = ", ".join(sorted(loaded)) or "none"
        raise ConfigError(
            f"no context {name!r} in {project.folder / project.contexts_dir} (there: {known})",
            next_step=f"carveout context new {name} --tables ...",
        )
    return loaded[name]


def neighbours(context: Context) -> list[Context]:
    """The other contexts in the folder that ``context`` was read from.

    :raises ConfigError: a file cannot be used.
    """
    files = sorted(context.folder.parent.glob(f"*/{CONTEXT_FILE}")) if context.folder.name else []
    return [
        _read(path, Context).model_copy(update={"folder": path.parent})
        for path in files
        if path.parent != context.folder
    ]


def expand(text: str, *, where: str, environ: Mapping[str, str] | None = None) -> str:
    """Replace each ``${VAR}`` by the variable, or by the content of the file that ``VAR_FILE`` names.

    :param where: file and key, for the error.
    :raises ConfigError: a variable is missing or its file cannot be read.
    """
    env = os.environ if environ is None else environ

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name in env:
            return env[name]
        if path := env.get(f"{name}_FILE"):
            try:
                return Path(path).read_text(encoding="utf-8").strip()
            except OSError as error:
                raise ConfigError(f"{where}: {name}_FILE={path}: {error.strerror}") from error
        raise ConfigError(f"{where}: ${{{name}}} is not set", next_step=f"export {name}=... (or {name}_FILE=path)")

    return _VARIABLE.sub(value, text)


def expand_texts(options: Mapping[str, _V], *, where: str) -> dict[str, _V]:
    """:func:`expand` for every value that is a text.

    :raises ConfigError: as for :func:`expand`.
    """
    return {
        key: expand(value, where=f"{where}.{key}") if isinstance(value, str) else value  # type: ignore[misc]
        for key, value in options.items()
    }


def _load_context(path: Path, project: Project) -> Context:
    context = _read(path, Context)
    if context.name != path.parent.name:
        raise ConfigError(f"{path}: name: {context.name!r} differs from its folder {path.parent.name!r}")
    traffic = _all_traffic(path, project, context)
    return context.model_copy(update={"folder": path.parent, "traffic": traffic})


def _all_traffic(path: Path, project: Project, context: Context) -> Traffic:
    """What the project declares for every context, and the context for itself; files are found from where they stand.

    :raises ConfigError: two PgBouncers have one name.
    """
    found: list[PgBouncer] = []
    for folder, declared in ((project.folder, project.traffic), (path.parent, context.traffic)):
        for bouncer in declared.pgbouncer:
            entries = bouncer.databases or (context.name,)
            update = {"config": str(folder / Path(bouncer.config).expanduser()), "databases": entries}
            found.append(bouncer.model_copy(update=update))
    hooks = context.traffic.hooks if context.traffic.hooks != Hooks() else project.traffic.hooks
    try:
        return Traffic(pgbouncer=tuple(found), hooks=hooks)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_plain(error.errors()[0]['msg'])}") from error


def _read(path: Path, model: type[_M]) -> _M:
    try:
        raw: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    _refuse_literal_passwords(path, raw)
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc'])) or 'file'}: {_plain(e['msg'])}" for e in error.errors()]
        raise ConfigError(f"{path}: " + "; ".join(problems)) from error


def _plain(message: str) -> str:
    return message.replace("Extra inputs are not permitted", "unknown key").removeprefix("Value error, ")


def _refuse_literal_passwords(path: Path, raw: Mapping[str, Any]) -> None:
    for key, url in _urls(raw):
        if isinstance(url, str) and _LITERAL_PASSWORD.search(url):
            raise ConfigError(
                f"{path}: {key}: holds a password",
                next_step="put ${VAR} there and the URL into the environment, a VAR_FILE, or ~/.pgpass",
            )


def _urls(raw: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    for section, key in (("shared", "url"), ("service", "url"), ("kafka", "connect")):
        if isinstance(table := raw.get(section), dict):
            yield f"{section}.{key}", table.get(key)
    traffic = raw.get("traffic")
    bouncers = traffic.get("pgbouncer") if isinstance(traffic, dict) else None
    for number, bouncer in enumerate(bouncers if isinstance(bouncers, list) else ()):
        if isinstance(bouncer, dict):
            yield f"traffic.pgbouncer.{number}.admin", bouncer.get("admin")
