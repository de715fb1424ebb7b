"""Loaded by Python itself in every process of a worker: this folder is first on its PYTHONPATH."""

from tests.support.faults.injection import install

install()
