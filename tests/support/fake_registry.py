"""A Schema Registry that answers in the process: the part of Confluent's API that we use."""

import json
from dataclasses import dataclass, field

import httpx


@dataclass(slots=True)
class FakeRegistry:
    """Keeps schemas by id and by subject, also below /apis/v7; refuses only what is unknown.

    Args:
        schemas: texts, by id - 1.
        subjects: ids by subject, oldest version first.
        asked: method and path of every request.
        refusal: status and body of the next answers, whatever is asked.
    """

    schemas: list[str] = field(default_factory=list)
    subjects: dict[str, list[int]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    refusal: tuple[int, str] | None = None

    @property
    def transport(self) -> httpx.MockTransport:
        """What a client takes in place of the network."""
        return httpx.MockTransport(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(f"{request.method} {request.url.path}")
        path = request.url.path.removeprefix("/apis/v7")
        if self.refusal is not None:
            return httpx.Response(self.refusal[0], text=self.refusal[1])
        match request.method, path.strip("/").split("/"):
            case "GET", ["subjects"]:
                return httpx.Response(200, json=list(self.subjects))
            case "GET", ["schemas", "ids", number] if 0 < int(number) <= len(self.schemas):
                return httpx.Response(200, json={"schema": self.schemas[int(number) - 1]})
            case "GET", ["subjects", subject, "versions", "latest"] if subject in self.subjects:
                last = self.subjects[subject][-1]
                return httpx.Response(200, json={"schema": self.schemas[last - 1], "id": last})
            case "GET", ["subjects", subject, "versions"] if subject in self.subjects:
                return httpx.Response(200, json=[n + 1 for n in range(len(self.subjects[subject]))])
            case "GET", ["subjects", subject, "versions", number] if subject in self.subjects:
                wanted = self.subjects[subject][int(number) - 1]
                return httpx.Response(200, json={"schema": self.schemas[wanted - 1], "id": wanted})
            case "POST", ["subjects", subject, "versions"]:
                return httpx.Response(200, json={"id": self._register(subject, request.content)})
        return httpx.Response(404, json={"error_code": 40403, "message": "not found"})

    def _register(self, subject: str, content: bytes) -> int:
        text = json.loads(content)["schema"]
        if text not in self.schemas:
            self.schemas.append(text)
        number = self.schemas.index(text) + 1
        versions = self.subjects.setdefault(subject, [])
        if number not in versions:
            versions.append(number)
        return number
