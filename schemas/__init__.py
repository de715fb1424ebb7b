"""ENCODE: Python values become Avro bytes and back."""
