"""The result of a preflight: which checks ran, and everything that they found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from contexts.errors import ExitCode
from migrator.checks.model import Finding, Severity

JSON_VERSION = 1


@dataclass(frozen=True, slots=True)
class Report:
    """All findings of one run. An empty list says little without the checks that were made."""

    context: str
    checks: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def blockers(self) -> tuple[Finding, ...]:
        """The findings that forbid the start."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.BLOCKER)

    @property
    def exit_code(self) -> ExitCode:
        """What ``carveout check`` ends with."""
        return ExitCode.REFUSED if self.blockers else ExitCode.DONE

    @property
    def next_steps(self) -> tuple[str, ...]:
        """The commands that go on from here."""
        return (f"carveout {'check' if self.blockers else 'prepare'} {self.context}",)

    def as_json(self) -> dict[str, object]:
        """The documented shape of ``carveout check --json``, see ``docs/checks.md``."""
        counts = self._counts()
        return {
            "version": JSON_VERSION,
            "command": "check",
            "context": self.context,
            "checks": list(self.checks),
            "counts": {str(severity): counts[severity] for severity in Severity},
            "findings": [_finding_as_json(finding) for finding in self.findings],
            "next_steps": list(self.next_steps),
        }

    def lines(self) -> Iterator[str]:
        """The report for a terminal: blockers first, each with its fix, then the sum."""
        for severity in Severity:
            for finding in self.findings:
                if finding.severity is severity:
                    yield from _finding_lines(finding)
        counts = self._counts()
        found = ", ".join(f"{severity}s: {counts[severity]}" for severity in Severity)
        yield f"{len(self.checks)} checks of context {self.context}; {found}"
        yield f"next: {self.next_steps[0]}" + (", once the blockers are gone" if self.blockers else "")

    def _counts(self) -> Counter[Severity]:
        return Counter(finding.severity for finding in self.findings)


def _finding_lines(finding: Finding) -> Iterator[str]:
    where = f" on the {finding.side} side" if finding.side else ""
    yield f"{finding.severity}: {finding.object}{where}: {finding.message} [{finding.check}]"
    for line in finding.fix.splitlines():
        yield f"    {line}"
    yield ""


def _finding_as_json(finding: Finding) -> dict[str, str | None]:
    return {
        "check": finding.check,
        "severity": finding.severity,
        "side": finding.side,
        "object": finding.object,
        "message": finding.message,
        "fix": finding.fix,
    }
