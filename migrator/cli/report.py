"""``report``: the proof as one file to keep, to send and to print."""

from __future__ import annotations

from pathlib import Path

import click

from migrator.cli.common import context_argument, json_option, load, print_json, project_option, run_of


@click.command()
@context_argument
@project_option
@json_option
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), default=Path("report.html"), show_default=True,
    help="The HTML file.",
)  # fmt: skip
def report(context_name: str, project_dir: Path | None, as_json: bool, output: Path) -> None:
    """Write the proof and the history of a context as one HTML file, from stored results.

    The verdict, what was compared at which position, the invariants with their statements, the surroundings, and a
    time line of the migration with the time that writes were blocked. Nothing is compared anew: see ``verify``.
    """
    from migrator import report as reporting
    from validations.report import page

    context, both = load(project_dir, context_name)
    with run_of(context, both, "report") as run:
        found = reporting.gather(run)
    if as_json:
        print_json(reporting.to_json(context, found))
        return
    output.write_text(page.render(found), encoding="utf-8")
    click.echo(f"{output}: {context.name} is {'proven equal' if found.passed else 'NOT PROVEN'}")
