"""PUBLISH: encoded bytes become an acknowledged Kafka record."""
