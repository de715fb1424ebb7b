"""What the contract suites run against."""

from tests.support.brokers import broker, embedded_settings

__all__ = ["broker", "embedded_settings"]
