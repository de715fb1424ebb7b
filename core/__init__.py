"""WORDS: the terms everything else is written in. Pure: no I/O, no third-party imports."""
