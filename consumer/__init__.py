"""RUN: a record becomes one final state."""
