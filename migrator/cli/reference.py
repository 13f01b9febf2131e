"""``docs/cli.md``, made from the commands themselves.

``python -m migrator.cli.reference`` writes it again, in the folder that holds ``docs/``.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from contexts.errors import ExitCode
from migrator.cli import cli

FILE = Path("docs") / "cli.md"

HEAD = """# Command line

<!-- made by python -m migrator.cli.reference: change the commands, not this file -->

`carveout COMMAND` and `python migrate.py COMMAND` are the same. Results go to stdout, logs and errors to stderr; where
a command asks, it asks on stderr, and without a terminal it fails instead. An error says what happened, what was left
unchanged, and what to run next.

`--json` prints one document, described in [json.md](json.md). `--dry-run` prints every statement with its side and
changes nothing; its sessions are read-only.
"""

EXITS = {
    ExitCode.DONE: "done; for commands that judge: nothing found",
    ExitCode.ERROR: "an error: a server, a right, a file; running it again may do, the message says so",
    ExitCode.USAGE: "wrong arguments or a wrong configuration file",
    ExitCode.DIFFERENCES: "the sides differ, nothing was compared, or a contract is broken",
    ExitCode.REFUSED: "a guard refused: a wrong state, a blocker, somebody else at work; nothing was done",
    ExitCode.NEEDS_HUMAN: "somebody must decide: the stream stopped, or a switch could not be settled",
}


@dataclass(frozen=True)
class Note:
    """What click does not know of a command: how it is called, and the exit codes that it can end with."""

    example: str
    #: Beside DONE, ERROR and USAGE, which every command has.
    exits: tuple[ExitCode, ...] = ()


_DIFFERENCES, _REFUSED, _HUMAN = ExitCode.DIFFERENCES, ExitCode.REFUSED, ExitCode.NEEDS_HUMAN
NOTES = {
    "init": Note("carveout init", (_REFUSED,)),
    "context new": Note(
        "carveout context new wallet --tables wallet.accounts,wallet.holds --role wallet_service=select,insert,update",
        (_REFUSED,),
    ),
    "bootstrap-sql": Note("carveout bootstrap-sql wallet --owner wallet_owner"),
    "schema upgrade": Note("carveout schema upgrade wallet --to tables"),
    "proceed": Note("carveout proceed wallet", (_REFUSED,)),
    "cancel": Note("carveout cancel wallet", (_REFUSED,)),
    "stragglers": Note("carveout stragglers wallet", (_REFUSED,)),
    "schema check": Note("carveout schema check wallet", (_DIFFERENCES,)),
    "grants check": Note("carveout grants check wallet", (_REFUSED,)),
    "grants sql": Note("carveout grants sql wallet"),
    "grants apply": Note("carveout grants apply wallet --dry-run", (_REFUSED,)),
    "check": Note("carveout check wallet --only keys --only grants", (_REFUSED,)),
    "plan": Note("carveout plan wallet"),
    "prepare": Note("carveout prepare wallet --dry-run", (_REFUSED,)),
    "worker": Note("carveout worker wallet --spool /var/spool/carveout --metrics 127.0.0.1:9187", (_REFUSED, _HUMAN)),
    "status": Note("carveout status wallet --watch"),
    "verify": Note("carveout verify wallet", (_DIFFERENCES, _REFUSED)),
    "differences": Note("carveout differences wallet --format csv", (_DIFFERENCES,)),
    "rules list": Note("carveout rules list wallet", (_HUMAN,)),
    "rules accept": Note("carveout rules accept wallet service-3 --reason 'a correction by hand'", (_REFUSED,)),
    "repair": Note("carveout repair wallet --table wallet.accounts --key 7 --dry-run", (_DIFFERENCES, _REFUSED)),
    "suites run": Note("carveout suites run wallet --data-docs docs", (_DIFFERENCES, _REFUSED)),
    "report": Note("carveout report wallet -o wallet.html"),
    "dual-write": Note("carveout dual-write wallet observe", (_REFUSED,)),
    "reads": Note("carveout reads wallet --service 25%", (_REFUSED,)),
    "cutover": Note("carveout cutover wallet --json", (_REFUSED, _HUMAN)),
    "rollback": Note("carveout rollback wallet", (_REFUSED, _HUMAN)),
    "complete": Note("carveout complete wallet --drop-tables --confirm wallet", (_REFUSED,)),
    "abort": Note("carveout abort wallet", (_REFUSED,)),
    "pause": Note("carveout pause wallet"),
    "resume": Note("carveout resume wallet", (_REFUSED, _HUMAN)),
    "throttle": Note("carveout throttle wallet 20000"),
    "connector config": Note("carveout connector config wallet"),
    "connector apply": Note("carveout connector apply wallet --dry-run", (_REFUSED,)),
    "connector status": Note("carveout connector status wallet --json", (_HUMAN,)),
    "connector schema": Note("carveout connector schema wallet -o events", (_DIFFERENCES, _REFUSED)),
    "connector delete": Note("carveout connector delete wallet", (_REFUSED,)),
    "stream look": Note("carveout stream look wallet", (_HUMAN,)),
    "stream skip": Note("carveout stream skip wallet --offset 4711 --reason 'a test message'", (_REFUSED,)),
    "stream repair": Note(
        "carveout stream repair wallet --offset 4711 --record fixed.json --reason 'see ticket 12'", (_REFUSED,)
    ),
    "stream list": Note("carveout stream list wallet --json"),
    "outbox status": Note("carveout outbox status wallet --json", (_HUMAN,)),
    "outbox connector": Note("carveout outbox connector wallet"),
    "outbox retry": Note("carveout outbox retry wallet", (_REFUSED,)),
    "outbox skip": Note("carveout outbox skip wallet --event 4711 --reason 'see ticket 12'", (_REFUSED,)),
    "dev kafka": Note("carveout dev kafka --broker-port 19092"),
    "demo": Note("carveout demo --rate 100", (_DIFFERENCES,)),
    "doctor": Note("carveout doctor wallet", (_HUMAN,)),
}


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, with its full name, in the order of a migration."""
    context = click.Context(cli, info_name="carveout")
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from ((f"{name} {child}", command.commands[child]) for child in command.list_commands(context))
        else:
            yield name, command


def reference() -> str:
    """The whole page."""
    return "\n".join([HEAD, *_exit_codes(), *(line for name, command in commands() for line in _page(name, command))])


def _exit_codes() -> list[str]:
    rows = [f"| {code:d} | {meaning} |" for code, meaning in EXITS.items()]
    return ["| exit code | meaning |", "|---|---|", *rows, ""]


def _page(name: str, command: click.Command) -> list[str]:
    note = NOTES[name]
    context = click.Context(command, info_name=name, parent=click.Context(cli, info_name="carveout"))
    codes = sorted({ExitCode.DONE, ExitCode.ERROR, ExitCode.USAGE, *note.exits})
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    return [
        f"## carveout {name}",
        "",
        f"    {usage}",
        "",
        inspect.cleandoc(command.help or ""),
        "",
        *_options(command, context),
        f"Exit codes: {', '.join(f'{code:d}' for code in codes)}. For example:",
        "",
        f"    {note.example}",
        "",
    ]


def _options(command: click.Command, context: click.Context) -> list[str]:
    records = [param.get_help_record(context) for param in command.params if isinstance(param, click.Option)]
    rows = [f"| `{flag}` | {' '.join(text.split())} |" for flag, text in filter(None, records)]
    return ["| option | |", "|---|---|", *rows, ""] if rows else []


if __name__ == "__main__":
    FILE.write_text(reference(), encoding="utf-8")
