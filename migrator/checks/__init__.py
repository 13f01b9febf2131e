"""The preflight: everything that would stop a migration or break an application, found before anything changes."""

from migrator.checks.model import Finding, Severity
from migrator.checks.report import Report
from migrator.checks.run import run_checks

__all__ = ["Finding", "Report", "Severity", "run_checks"]
