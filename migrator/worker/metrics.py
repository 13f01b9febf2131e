"""Prometheus metrics of the workers, served on request; every name, label and unit stands here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import psycopg

from contexts.databases import databases
from contexts.errors import CarveoutError, ConfigError
from contexts.model import Context, Project
from migrator.control import migrations, workers
from migrator.control.workers import WorkerReport
from migrator.lifecycle import State

if TYPE_CHECKING:
    from prometheus_client import Metric

#: Metric name -> (key of the worker's report, help).
GAUGES = {
    "carveout_lag_seconds": ("lag_s", "Time since the closed side held everything"),
    "carveout_lag_bytes": ("lag_bytes", "WAL between the open side and what is applied"),
    "carveout_applied_rows_total": ("rows", "Rows applied by this worker"),
    "carveout_applied_transactions_total": ("transactions", "Source transactions applied by this worker"),
    "carveout_rule_violations_total": ("rule_violations", "Rows and groups that broke a stream rule, ever"),
    "carveout_paused": ("paused", "1 while the worker is paused or throttled"),
    "carveout_failed": ("error", "1 while the worker reports an error"),
    "carveout_slot_lag_bytes": ("slot.lag_bytes", "WAL that the open side keeps for the stream's slot"),
}
#: The same where the context has outbox tables.
OUTBOX_GAUGES = {
    "carveout_outbox_waiting": ("outbox.waiting", "Events of outbox tables that are not published"),
    "carveout_outbox_held": ("outbox.held", "Those of them that the sink refuses"),
}
#: The same where the stream goes through Kafka.
KAFKA_GAUGES = {
    "carveout_connector_running": ("connector.running", "1 while the connector and its task run"),
    "carveout_connector_failed": ("connector.failed", "1 while the connector or its task has failed"),
    "carveout_topic_lag_records": ("connector.lag_records", "Records of the topic that are not applied"),
    "carveout_topic_lag_bytes": ("connector.lag_bytes_estimated", "The same in bytes, by the mean size of a record"),
    "carveout_topic_bytes": ("connector.topic_bytes", "Size of the topic on one broker"),
}

#: One number for each partition of the rows.
PARTITION_LAG = "carveout_partition_lag_records", "Records of a partition of the rows that are not applied"


def serve(address: str, project: Project, contexts: Iterable[Context]) -> None:
    """Serve metrics on ``host:port`` (port alone: on loopback) from a daemon thread.

    :raises ConfigError: the address cannot be used, or the extra ``metrics`` is not installed.
    """
    try:
        from prometheus_client import CollectorRegistry, start_http_server
    except ImportError as error:
        raise ConfigError("metrics need an extra", next_step="pip install 'carveout[metrics]'") from error
    host, _, port = address.rpartition(":")
    registry = CollectorRegistry()
    registry.register(_Collector(project, list(contexts)))
    try:
        start_http_server(int(port), addr=host or "127.0.0.1", registry=registry)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--metrics {address}: {error}", next_step="write HOST:PORT with a free port") from error


class _Collector:
    """Reads the report rows at each scrape: the numbers that ``status`` shows."""

    def __init__(self, project: Project, contexts: list[Context]) -> None:
        self._project = project
        self._contexts = contexts

    def describe(self) -> list[Metric]:
        """Nothing ahead of the first scrape: the databases may not be up yet."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All gauges for all contexts."""
        from prometheus_client.core import GaugeMetricFamily

        reports = {context.name: self._read(context) for context in self._contexts}
        up = GaugeMetricFamily("carveout_worker_age_seconds", "Age of the worker's last report", labels=["context"])
        state = GaugeMetricFamily("carveout_state", "1 for the present state", labels=["context", "state"])
        for name, (present, report) in reports.items():
            for one in State:
                state.add_metric([name, one], float(one is present))
            if report:
                up.add_metric([name], report.age_s)
        yield from (up, state)
        for metric, (key, text) in {**GAUGES, **OUTBOX_GAUGES, **KAFKA_GAUGES}.items():
            family = GaugeMetricFamily(metric, text, labels=["context"])
            for name, (_, report) in reports.items():
                if report and (value := _reported(report.report, key)) is not None:
                    family.add_metric([name], value)
            yield family
        lag = GaugeMetricFamily(*PARTITION_LAG, labels=["context", "partition"])
        for name, (_, report) in reports.items():
            for one in ((report and report.report.get("connector")) or {}).get("partitions", ()):
                lag.add_metric([name, str(one["partition"])], float(one["lag_records"]))
        yield lag

    def _read(self, context: Context) -> tuple[State | None, WorkerReport | None]:
        try:
            with databases(self._project, context).shared.connect("metrics") as conn:
                return migrations.read(conn, context.name).state, workers.read(conn, context.name)
        except (psycopg.Error, CarveoutError):
            return None, None


def _reported(report: Mapping[str, Any], key: str) -> float | None:
    """A number of a report, 1 or 0 for a reason or none; None where a part of the report (``slot.``) does not tell."""
    part, _, name = key.rpartition(".")
    found = report.get(part) if part else report
    if not found or (part and found.get(name) is None):
        return None
    value = found.get(name)
    return float(bool(value)) if value is None or isinstance(value, str) else float(value)
