"""KAFKA: the only code that talks to Kafka. Importing it loads no client; using it does."""
