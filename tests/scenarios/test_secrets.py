"""Known secrets in every setting, through every kind of failure: none is to be found in any output.

The settings are wrong on purpose (brokers that refuse to be connected to, options that no client takes), so
that the errors of all libraries come to the surface, with the client's own debug lines.

Broken on purpose once, and seen to fail: an address in an error of the registry, an option's value in the
client's error, and findings of `doctor` as they come.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support import speaking
from tests.support.eventually import eventually
from tests.support.stage import ROOT

APP = "tests.support.speaking:app"
NOWHERE = "127.0.0.1:1"
SECRETS = {
    name: f"geheim-{name}-4711"
    for name in ("kafka", "key", "otlp", "registry", "cassandra", "dashboard", "jaeger", "argument")
}
KAFKA = {
    "sasl.username": "anna",
    "sasl.password": SECRETS["kafka"],
    "sasl.mechanism": "PLAIN",
    "security.protocol": "SASL_PLAINTEXT",
    "ssl.key.password": SECRETS["key"],
    "debug": "security,broker",
}


@dataclass(frozen=True, slots=True)
class Spoken:
    """A command on its way, and the file with all that it says.

    Args:
        process: the command.
        output: both streams.
    """

    process: "subprocess.Popen[bytes]"
    output: Path

    @property
    def said(self) -> str:
        """All so far."""
        return self.output.read_text(errors="replace")

    def await_end(self) -> None:
        """Until it has ended by itself."""
        eventually(lambda: self.process.poll() is not None, 60)

    def await_word(self, word: str) -> None:
        """Until it has said so."""
        eventually(lambda: word in self.said, 60)


def environment(**more: str) -> dict[str, str]:
    """Settings with a secret in each that can carry one."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TASKSTREAM_")}
    return {
        **kept,
        speaking.NAME: "hostile",
        speaking.PASSWORD: SECRETS["cassandra"],
        "TASKSTREAM_BOOTSTRAP_SERVERS": NOWHERE,
        "TASKSTREAM_CASSANDRA_HOSTS": NOWHERE,
        "TASKSTREAM_KAFKA": json.dumps(KAFKA),
        "TASKSTREAM_OTLP_ENDPOINT": f"http://anna:{SECRETS['otlp']}@{NOWHERE}",
        "TASKSTREAM_SCHEMA_REGISTRY_URL": f"http://anna:{SECRETS['registry']}@{NOWHERE}",
        "TASKSTREAM_DASHBOARD_TOKEN": SECRETS["dashboard"],
        "TASKSTREAM_JAEGER_URL": f"http://anna:{SECRETS['jaeger']}@{NOWHERE}",
        "TASKSTREAM_PUBLISH_TIMEOUT": "2",
        **more,
    }


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Ends what was started."""
    with ExitStack() as stack:
        yield stack


def speak(stack: ExitStack, directory: Path, *words: str, environment: Mapping[str, str]) -> Spoken:
    """Starts a command; it is ended hard where it goes on."""
    output = directory / f"{words[0]}-{len(list(directory.iterdir()))}.txt"
    with output.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "taskstream", *words],
            cwd=ROOT, env=dict(environment), stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
        )  # fmt: skip
    stack.callback(process.wait)
    stack.callback(process.kill)
    return Spoken(process, output)


def found_in(text: str) -> list[str]:
    """The names of the secrets that it shows."""
    return [name for name, secret in SECRETS.items() if secret in text]


PUBLISH = ("publish", APP, "in_loop", json.dumps({"secret": SECRETS["argument"]}))
FAILING = (
    ("doctor", APP),
    PUBLISH,
    ("result", APP, "o-17"),
)
ON_AND_ON = {
    ("worker", APP, "--children", "1", "--log-level", "debug", "--log-format", "json"): "Control connection failed",
    ("scheduler", APP, "--log-level", "debug"): "Kafka reports trouble",
    ("dashboard", APP, "--port", "0", "--log-level", "debug"): "dashboard of",
}  # fmt: skip


@pytest.mark.servers("kafka")
def test_servers_that_refuse_and_servers_that_are_not_there_bring_no_secret_to_light(
    stack: ExitStack, tmp_path: Path, kafka: str
) -> None:
    """Of commands that fail, and of processes that go on: all say what is wrong, and none says more."""
    around = environment()
    on_and_on = {
        word: speak(stack, tmp_path, *words, environment=around)
        for words, word in ON_AND_ON.items()
    }
    failing = [speak(stack, tmp_path, *words, environment=around) for words in FAILING]
    refused = speak(  # by a broker that wants no password at all
        stack, tmp_path, *PUBLISH,
        environment={
            **around, "TASKSTREAM_BOOTSTRAP_SERVERS": kafka, "TASKSTREAM_SCHEMA_REGISTRY_URL": ""
        },
    )  # fmt: skip
    for one in failing:
        one.await_end()
        assert one.process.returncode == 1, one.said
        assert NOWHERE in one.said
    for word, one in on_and_on.items():
        one.await_word(word)
    in_json = on_and_on["Control connection failed"].said.splitlines()[
        :-1
    ]  # the last may be half written
    assert all(json.loads(line)["level"] for line in in_json)
    refused.await_end()
    assert refused.process.returncode == 1, refused.said
    for one in (*on_and_on.values(), *failing, refused):
        assert found_in(one.said) == [], one.output


MISTAKES: dict[str, dict[str, str]] = {
    "an option that no client knows": {
        "TASKSTREAM_KAFKA": json.dumps({**KAFKA, "sasl.pasword": SECRETS["kafka"]})
    },
    "a value that no client takes": {
        "TASKSTREAM_KAFKA": json.dumps({**KAFKA, "security.protocol": SECRETS["kafka"]})
    },
    "an address that is none": {
        "TASKSTREAM_SCHEMA_REGISTRY_URL": f"http//anna:{SECRETS['registry']}@h"
    },
}


def test_mistakes_in_settings_are_told_without_their_secrets(
    stack: ExitStack, tmp_path: Path
) -> None:
    """The error names the option; what was written there may be a password in the wrong place."""
    told = {
        what: speak(
            stack, tmp_path, *PUBLISH,
            environment={**environment(), "TASKSTREAM_SCHEMA_REGISTRY_URL": "", **wrong},
        )
        for what, wrong in MISTAKES.items()
    }  # fmt: skip
    for what, one in told.items():
        one.await_end()
        assert one.process.returncode == 2, (what, one.said)
        assert found_in(one.said) == [], (what, one.said)
