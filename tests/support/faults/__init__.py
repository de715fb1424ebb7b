"""The fault harness: a seeded workload, faults of every kind, and an oracle that believes nobody.

workload    what is published, drawn from a seed: pure
jobs        the app that the workers run; every start is noted in a journal
journal     the lines of it
inject      loaded into every process of a worker: tells the journal what was stored, and mutates
crew        the worker processes, to be started, killed and frozen
catalogue   the faults, by name
oracle      what was promised against what journal, store and topics say: pure
run         one run of one fault
report      the table
"""
