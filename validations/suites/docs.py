"""Great-expectations' own pages (Data Docs) of a run: one HTML file for each suite and side, and a list of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from contexts.model import Side
from validations.suites.model import Suite
from validations.suites.quiet import quiet


@dataclass
class DataDocs:
    """Collects results while suites run, then writes them."""

    #: Where the files go; made where it is not there.
    folder: Path
    _results: dict[tuple[str, str], list[Any]] = field(default_factory=dict)

    def keep(self, suite: Suite, side: Side | None, results: list[Any]) -> None:
        """Take the library's results of one suite and side."""
        if results:
            self._results.setdefault((suite.name, side or "both"), []).extend(results)

    def write(self) -> Path:
        """Write all pages; returns the list of them. The pages load their styles from the web when they are shown."""
        self.folder.mkdir(parents=True, exist_ok=True)
        links = []
        for (suite, side), results in sorted(self._results.items()):
            name = f"{suite}.{side}.html"
            (self.folder / name).write_text(_page(suite, side, results), encoding="utf-8")
            met = sum(bool(result.success) for result in results)
            links.append(f'<li><a href="{escape(name)}">{escape(suite)}, {side}</a>: {met} of {len(results)} met</li>')
        index = self.folder / "index.html"
        index.write_text(
            '<!DOCTYPE html><meta charset="utf-8"><title>Suites</title>'
            f"<h1>Suites</h1><ul>{''.join(links)}</ul>", encoding="utf-8",
        )  # fmt: skip
        return index


def _page(suite: str, side: str, results: list[Any]) -> str:
    from great_expectations.core.expectation_validation_result import ExpectationSuiteValidationResult
    from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer
    from great_expectations.render.view.view import DefaultJinjaPageView

    met = sum(bool(result.success) for result in results)
    statistics: Any = {
        "evaluated_expectations": len(results),
        "successful_expectations": met,
        "unsuccessful_expectations": len(results) - met,
        "success_percent": 100 * met / len(results),
    }
    meta: Mapping[str, Any] = {
        "run_id": {"run_name": side, "run_time": dt.datetime.now(dt.UTC).isoformat()},
        "active_batch_definition": {},
    }
    whole = ExpectationSuiteValidationResult(
        success=met == len(results), results=results, suite_name=f"{suite} ({side})", statistics=statistics,
        meta=dict(meta),
    )  # fmt: skip
    with quiet():
        view: Any = DefaultJinjaPageView()
        page: str = view.render(ValidationResultsPageRenderer().render(whole))
    return page
