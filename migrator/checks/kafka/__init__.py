"""Checks of Kafka, Connect and the connector, where the stream goes through them."""
