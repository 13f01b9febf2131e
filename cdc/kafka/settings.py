"""The connector settings under which nothing is lost, each with its reason, and the audit of someone else's.

The reasons were each seen in events recorded from Debezium 3.6 against PostgreSQL. What a mode means for one
column is decided by :mod:`cdc.kafka.decoder.lossless`; here stands what can be said of the connector as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

#: Debezium's own placeholder for an unchanged TOAST value: public, so a row may hold it as a value.
PUBLIC_PLACEHOLDER = "__debezium_unavailable_value"
#: The shortest placeholder that we take for one that no row holds by chance.
PLACEHOLDER_LENGTH = 24
JSON_CONVERTER = "org.apache.kafka.connect.json.JsonConverter"
HEARTBEAT_PREFIX = "carveout.heartbeat"


@dataclass(frozen=True, slots=True)
class Rule:
    """One setting: what we set, what else is as good, and what is lost otherwise."""

    name: str
    value: str
    reason: str
    #: Debezium's or Connect's default, which counts where the setting is not given.
    default: str
    #: Other values that lose nothing either.
    also: tuple[str, ...] = ()

    def allows(self, given: str) -> bool:
        """Whether ``given`` loses nothing."""
        return given.strip().lower() in {value.lower() for value in (self.value, *self.also)}


@dataclass(frozen=True, slots=True)
class Finding:
    """A setting that loses something."""

    setting: str
    given: str
    reason: str
    #: What to set instead.
    fix: str


_CONVERTER = "a NULL in a column that has a default would arrive as that default"
_FILTER = "rows, columns or messages would be left out or altered on the way"
_UNKNOWN_CODE = "values would be written by code that is not known here"
_KEEPS_LOG = "the server would keep its log for ever, until the slot breaks or the disk is full"
_SNAPSHOTS = "snapshots could be asked for from outside, and would mix reads into the stream"
#: What counts where the connector is silent and the Connect worker has a setting of its own.
_WORKERS = "the worker's"

RULES: tuple[Rule, ...] = (
    Rule("connector.class", "io.debezium.connector.postgresql.PostgresConnector", "only Debezium's connector for "
         "PostgreSQL is read here", ""),
    Rule("plugin.name", "pgoutput", "decoderbufs writes values in a form of its own", "decoderbufs"),
    Rule("decimal.handling.mode", "string", "precise sends NaN and infinity as NULL or as the column's default and "
         "drops trailing zeros; double rounds", "precise"),
    Rule("interval.handling.mode", "string", "numeric counts a year as 365.25 days and a month as 30.4", "numeric"),
    Rule("time.precision.mode", "microseconds", "adaptive needs the precision of every column to be read; connect cuts "
         "to milliseconds; nanoseconds turns years outside 1677-2262 into NULL; isostring sends 24:00:00 as 00:00:00",
         "adaptive", ("adaptive", "adaptive_time_microseconds")),
    Rule("money.fraction.digits", "2", "an amount of money would be rounded, or arrive with other digits", "2"),
    Rule("binary.handling.mode", "bytes", "the text modes send an unchanged TOAST bytea as NULL", "bytes"),
    Rule("hstore.handling.mode", "json", "the map mode sends other events than were proven", "json"),
    Rule("include.unknown.datatypes", "true", "columns of types without a converter (composite, multirange, line, ...) "
         "would be left out, and a name column would be NULL", "false"),
    Rule("skipped.operations", "none", "TRUNCATE would be skipped", "t", ("",)),
    Rule("provide.transaction.metadata", "true", "the ends of transactions could not be told", "false"),
    Rule("event.processing.failure.handling.mode", "fail", "an event that cannot be read would be skipped in silence",
         "fail"),
    Rule("event.converting.failure.handling.mode", "fail", "a value that cannot be converted would arrive as NULL, or "
         "as the column's default", "warn"),
    Rule("errors.tolerance", "none", "Connect would drop records that a converter or transformation refuses", "none"),
    Rule("errors.log.include.messages", "false", "rows would be written to Connect's log", "false"),
    Rule("snapshot.mode", "no_data", "snapshot reads lose the era of BC dates and send each row of a partition twice; "
         "the copy brings the rows", "initial", ("never",)),
    Rule("signal.data.collection", "", "incremental snapshots would mix reads into the stream", ""),
    Rule("signal.enabled.channels", "source", _SNAPSHOTS, "source", ("", "in-process", "source,in-process")),
    Rule("read.only", "false", _SNAPSHOTS, "false"),
    Rule("publication.autocreate.mode", "disabled", "the connector would alter the publication", "all_tables"),
    Rule("replica.identity.autoset.values", "", "the connector would alter replica identities, and with them what the "
         "events hold", ""),
    Rule("slot.stream.params", "", "the server could be told to leave out changes or messages", ""),
    Rule("flush.lsn.source", "true", _KEEPS_LOG, "true"),
    Rule("lsn.flush.mode", "connector", f"manual: {_KEEPS_LOG}; connector_and_driver: the driver confirms by itself "
         "what Kafka may not have yet", "", ("",)),
    Rule("database.initial.statements", "", "statements of its own could change how the server writes values", ""),
    Rule("slot.drop.on.stop", "false", "a stopped connector would lose its place in the log", "false"),
    Rule("offset.mismatch.strategy", "trust_offset", "a slot made anew would not be noticed: what lies between is lost",
         "no_validation"),
    Rule("tasks.max", "1", "one slot has one order", "1"),
    Rule("key.converter.replace.null.with.default", "false", _CONVERTER, "true"),
    Rule("value.converter.replace.null.with.default", "false", _CONVERTER, "true"),
    Rule("value.converter", JSON_CONVERTER, "only Debezium's JSON is read here", _WORKERS),
    Rule("header.converter", "", "headers tell changed keys and restarts, and would be written in another form", "",
         ("org.apache.kafka.connect.storage.SimpleHeaderConverter",)),
    Rule("value.converter.schemas.enable", "true", "a column whose type changes in mid-stream could be misread",
         "true"),
    Rule("column.propagate.source.type", ".*", "a change of a column's type or precision in mid-stream could be missed",
         ""),
    Rule("extended.headers.enabled", "true", "a restart of the connector inside a transaction, after which it may have "
         "left out rows, would not be noticed", "true"),
    Rule("notification.enabled.channels", "sink", "a restart of the connector between the last rows of a transaction "
         "and its end, after which rows may be missing, would not be noticed", "", ("sink,log", "log,sink")),
    Rule("exactly.once.support", "required", "after a crash, events would be in the topic twice", "requested"),
    Rule("producer.override.acks", "", "a broker that dies would take events with it", "", ("all", "-1")),
    Rule("producer.override.interceptor.classes", "", _UNKNOWN_CODE, ""),
    Rule("table.include.list", "", _FILTER, ""),
    Rule("table.exclude.list", "", _FILTER, ""),
    Rule("schema.include.list", "", _FILTER, ""),
    Rule("schema.exclude.list", "", _FILTER, ""),
    Rule("column.include.list", "", _FILTER, ""),
    Rule("column.exclude.list", "", _FILTER, ""),
    Rule("message.prefix.include.list", "", _FILTER, ""),
    Rule("message.prefix.exclude.list", "", _FILTER, ""),
    Rule("message.key.columns", "", "keys would not be those of the tables", ""),
    Rule("converters", "", _UNKNOWN_CODE, ""),
    Rule("post.processors", "", "values would be altered, or read again when they are others already", ""),
    Rule("sourceinfo.struct.maker", "", _UNKNOWN_CODE, "",
         ("io.debezium.connector.postgresql.PostgresSourceInfoStructMaker",)),
    Rule("transaction.metadata.factory", "", _UNKNOWN_CODE, "",
         ("io.debezium.pipeline.txmetadata.DefaultTransactionMetadataFactory",)),
    Rule("skip.messages.without.change", "false", "updates that change nothing would be left out, and with them "
         "versions of rows", "false"),
    Rule("schema.refresh.mode", "columns_diff", "a column that was dropped or altered could go unnoticed",
         "columns_diff"),
    Rule("predicates", "", _FILTER, ""),
    Rule("schema.name.adjustment.mode", "none", "names of columns would be altered", "none"),
    Rule("field.name.adjustment.mode", "none", "names of columns would be altered", "none"),
)  # fmt: skip
#: Settings whose names go on after the prefix, with what they do.
_PREFIXES: Mapping[str, str] = {
    "column.mask.": "values would be altered on the way",
    "column.truncate.": "values would be altered on the way",
    "topic.creation.": "a topic that was deleted would be made anew, with another retention",
}
#: Transformations that move or rename no more than the topic.
_ROUTERS = frozenset({"org.apache.kafka.connect.transforms.RegexRouter"})
_OPTION = re.compile(r"(?:-c\s*|--)([^\s=]+=\S*)")
_PINNED_OPTIONS = ("intervalstyle=postgres", "bytea_output=hex", "lc_monetary=C", "extra_float_digits=3")


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a connector writes values: what the decoder has to know."""

    decimal: str = "string"
    time: str = "microseconds"
    binary: str = "bytes"
    interval: str = "string"
    hstore: str = "json"
    unknown_types: bool = True
    nulls_kept: bool = True
    snapshots: bool = False
    placeholder: str = PUBLIC_PLACEHOLDER

    @classmethod
    def of(cls, config: Mapping[str, str]) -> Encoding:
        """The encoding that a connector configuration leads to, with Debezium's defaults where it is silent."""
        mode = {rule.name: config.get(rule.name, rule.default).strip().lower() for rule in RULES}
        return cls(
            decimal=mode["decimal.handling.mode"],
            time=mode["time.precision.mode"],
            binary=mode["binary.handling.mode"],
            interval=mode["interval.handling.mode"],
            hstore=mode["hstore.handling.mode"],
            unknown_types=mode["include.unknown.datatypes"] == "true",
            nulls_kept=mode["value.converter.replace.null.with.default"] == "false",
            snapshots=mode["snapshot.mode"] not in {"no_data", "never"} or mode["signal.data.collection"] != "",
            placeholder=config.get("unavailable.value.placeholder", PUBLIC_PLACEHOLDER),
        )

    @property
    def placeholder_is_private(self) -> bool:
        """Whether no row can be expected to hold the placeholder as a value."""
        return self.placeholder != PUBLIC_PLACEHOLDER and len(self.placeholder) >= PLACEHOLDER_LENGTH


def lossless() -> dict[str, str]:
    """The settings of :data:`RULES` as a connector takes them."""
    return {rule.name: rule.value for rule in RULES if rule.value}


def audit(config: Mapping[str, str]) -> list[Finding]:
    """Every setting of a connector that someone else configured under which data is lost, with the reason.

    An empty answer says that nothing known to lose data is set; columns are judged one by one by
    :func:`cdc.kafka.decoder.lossless.lossless`.
    """
    findings = [
        Finding(rule.name, config.get(rule.name, f"{rule.default} (default)"), rule.reason, _fix(rule))
        for rule in RULES
        if not rule.allows(config.get(rule.name, rule.default))
    ]
    findings += [
        Finding(name, config[name], reason, f"remove {name}")
        for name in sorted(config)
        for prefix, reason in _PREFIXES.items()
        if name.startswith(prefix)
    ]
    return [*findings, *_placeholder(config), *_transforms(config), *_session(config), *_heartbeat(config)]


def _fix(rule: Rule) -> str:
    return f"{rule.name}={rule.value}" if rule.value else f"remove {rule.name}"


def _placeholder(config: Mapping[str, str]) -> list[Finding]:
    if Encoding.of(config).placeholder_is_private:
        return []
    name = "unavailable.value.placeholder"
    reason = "a value equal to the placeholder could not be told from an unchanged one"
    return [Finding(name, config.get(name, PUBLIC_PLACEHOLDER), reason, "set a random text of 24 or more characters")]


def _transforms(config: Mapping[str, str]) -> list[Finding]:
    names = [name.strip() for name in config.get("transforms", "").split(",") if name.strip()]
    kinds = {f"transforms.{name}.type": config.get(f"transforms.{name}.type", "") for name in names}
    return [
        Finding(key, kind, "a transformation may drop, split or alter events", "route with RegexRouter only")
        for key, kind in kinds.items()
        if kind not in _ROUTERS
    ]


def _heartbeat(config: Mapping[str, str]) -> list[Finding]:
    """Without heartbeats that write, the place of a slot whose tables are quiet stays where it is."""
    reason = f"while the tables are quiet, {_KEEPS_LOG}"
    interval = config.get("heartbeat.interval.ms", "0").strip()
    found = [] if interval.isdigit() and int(interval) else [
        Finding("heartbeat.interval.ms", interval, reason, "heartbeat.interval.ms=1000")
    ]  # fmt: skip
    if not config.get("heartbeat.action.query", "").strip():
        fix = "heartbeat.action.query=a statement that writes, see `carveout connector config`"
        found.append(Finding("heartbeat.action.query", "", reason, fix))
    return found


def _session(config: Mapping[str, str]) -> list[Finding]:
    given = config.get("driver.options", "")
    # The last one of a name counts, as the server takes them.
    set_to = dict(option.partition("=")[::2] for option in _OPTION.findall(given))
    missing = [option for option in _PINNED_OPTIONS if set_to.get(option.partition("=")[0]) != option.partition("=")[2]]
    if not missing:
        return []
    reason = "a role or database setting could change how the server writes " + ", ".join(missing)
    return [Finding("driver.options", given, reason, f"driver.options={session_options()}")]


def session_options() -> str:
    """The value of ``driver.options``: the texts that the connector's sessions read are then ours."""
    return " ".join(f"-c {option}" for option in (*_PINNED_OPTIONS, "search_path=pg_catalog"))
