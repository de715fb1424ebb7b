"""The parent owns Kafka; it never decodes and never imports user code."""
