"""A small shop, to read and to run: `taskstream demo`."""
