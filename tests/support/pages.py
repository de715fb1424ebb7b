"""The health pages of a worker."""

import json
from dataclasses import dataclass
from typing import Self

import httpx

from tests.support.servers import free_ports
from tests.support.stage import Stage


@dataclass(frozen=True, slots=True)
class Pages:
    """A worker's health pages."""

    url: str

    @classmethod
    def of(cls, stage: Stage, *options: str) -> Self:
        """Those of a worker that is started with these options."""
        (port,) = free_ports(1)
        stage.worker("--health-port", str(port), *options)
        return cls(f"http://127.0.0.1:{port}")

    def problems(self, page: str) -> list[str]:
        """What it says is wrong; the status must say the same."""
        try:
            answer = httpx.get(f"{self.url}/{page}", timeout=5.0)
        except httpx.TransportError as error:
            raise AssertionError(f"nobody answers: {error}") from error
        found: list[str] = json.loads(answer.text)["problems"]
        assert answer.status_code == (503 if found else 200)
        return found

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        lines = httpx.get(f"{self.url}/metrics", timeout=5.0).text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))
