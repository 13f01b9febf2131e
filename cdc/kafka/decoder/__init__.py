"""Decodes Debezium's JSON without any I/O: records in, events out, or a refusal by name."""

from cdc.kafka.decoder.codecs import Refusal
from cdc.kafka.decoder.envelope import Envelopes, Undecodable
from cdc.kafka.decoder.lossless import lossless, refusals, table_refusal
from cdc.kafka.decoder.rows import TableDecoder
from cdc.kafka.decoder.transactions import Decoder

__all__ = ["Decoder", "Envelopes", "Refusal", "TableDecoder", "Undecodable", "lossless", "refusals", "table_refusal"]
