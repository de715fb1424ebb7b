"""START: the servers that taskstream works with, on this machine.

`up` starts Kafka, Cassandra, Jaeger and, when asked, a schema registry, in one of two ways: as
containers where a Docker daemon answers, else as plain processes. `running` tells clients where
they are.

    catalogue   which servers, which versions
    settings    ports, heaps, folders
    state       what runs: the state file, and `running`
    lifecycle   up, down, status
    processes   one way: Java and Go programs (software, launch, pids, files/, poms/)
    containers  the other way: docker compose (compose.yaml)
    probes      is a server well, by its own protocol
    faults      kill, stop, cont, restart, for tests

Import from the modules: `state` needs the standard library alone, so that a service that only
publishes can ask `running` without the parts that start servers.
"""
