"""RESULT: where the states of tasks are kept and read."""
