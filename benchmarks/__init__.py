"""The bench: taskstream, the bare loop and the peers, measured in turn on the same servers.

`make bench` runs it, `make bench ARGS=--help` tells what it can be asked for, README.md how it works.
"""
