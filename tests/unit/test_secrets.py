"""What must never be shown: found in settings, and taken out of texts.

Broken on purpose once, and seen to fail: secrets in tables inside of tables, passwords with escapes in an
address, an @ in one, the shorter one of two secrets first, and the text of the settings.
"""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstream.app.configure import configure, from_environment
from taskstream.core.errors import ConfigError
from taskstream.core.secrets import HIDDEN, Veil, hides, secrets_in, shown, without, without_user
from taskstream.core.settings import NAMES, Layer, Settings, resolve


@pytest.mark.parametrize(
    "name",
    [
        "sasl.password", "ssl.key.password", "ssl.keystore.password", "ssl.key.pem", "password",
        "sasl.oauthbearer.client.secret", "sasl.jaas.config", "schema.registry.basic.auth.user.info",
        "api_key", "token", "client_secret", "ssl_key_password", "sasl.oauthbearer.assertion.private.key.pem",
    ],
)  # fmt: skip
def test_options_that_hold_a_secret_are_known_by_name(name: str) -> None:
    """librdkafka's, the driver's, and what people call such things."""
    assert hides(name)


@pytest.mark.parametrize(
    "name",
    [
        "sasl.username", "sasl.mechanisms", "bootstrap.servers", "ssl.ca.location", "ssl.key.location",
        "sasl.oauthbearer.token.endpoint.url", "client.id", "keyspace", "sasl.oauthbearer.scope",
    ],
)  # fmt: skip
def test_other_options_are_shown(name: str) -> None:
    """Who looks for a mistake in them must see them."""
    assert not hides(name)


class Authenticator:
    """As the Cassandra driver's: the password is inside."""

    def __init__(self) -> None:
        self.username, self.password = "anna", "of-cassandra"

    def __repr__(self) -> str:
        return f"Authenticator({self.username}, {self.password})"


HOSTILE: dict[str, Any] = {
    "bootstrap_servers": "kafka:9092",
    "cassandra_hosts": "one,two",
    "otlp_endpoint": "https://u:of%2Dotlp@collector:4317",
    "schema_registry_url": "http://anna:of-registry@registry:8081",
    "kafka": {
        "sasl.password": "of-kafka",
        "sasl.username": "anna",
        "ssl.key.pem": "-----BEGIN PRIVATE KEY-----\nof-the-key\n-----END PRIVATE KEY-----",
    },
    "cassandra": {
        "auth_provider": Authenticator(),
        "ssl_options": {"password": "of-tls"},
        "list": [{"token": "of-a-list"}],
    },
}
SECRETS = (
    "of%2Dotlp", "of-otlp", "of-registry", "of-kafka", "of-the-key", "of-cassandra", "of-tls",
    "of-a-list",
)  # fmt: skip


def test_secrets_are_found_wherever_settings_carry_them() -> None:
    """In options, in tables of them, in objects, and in addresses, escaped and not."""
    assert set(SECRETS) <= secrets_in(HOSTILE)
    assert not {"anna", "kafka:9092"} & secrets_in(HOSTILE)
    assert "of@registry" in secrets_in({"schema_registry_url": "http://anna:of@registry@host:8081"})


def test_the_text_of_settings_shows_none_of_them() -> None:
    """Nor does what is said where servers of `taskstream up` are used; the rest is there."""
    told = repr(Settings(**HOSTILE))
    assert not [secret for secret in SECRETS if secret in told]
    assert "'sasl.username': 'anna'" in told
    assert "http://***@registry:8081" in told
    assert Settings(**HOSTILE).secrets >= set(SECRETS)


def test_what_can_not_be_a_setting_is_not_shown_where_it_may_be_a_secret() -> None:
    """A table that was written as text, an address in the place of a number."""
    for values in ({"kafka": "sasl.password=of-kafka"}, {"partitions": "http://a:of-kafka@b"}):
        with pytest.raises(ConfigError) as failed:
            resolve([Layer("a test", values)])
        assert "of-kafka" not in str(failed.value)
    with pytest.raises(ConfigError) as failed:
        from_environment({"TASKSTREAM_KAFKA": '{"sasl.password": "of-kafka'})
    assert "of-kafka" not in str(failed.value)


def test_what_a_running_up_offers_is_said_without_its_secrets(tmp_path: Any) -> None:
    """Its addresses are for people to read."""
    said: list[str] = []
    configure(
        flags={}, arguments={}, environment={}, directory=tmp_path,
        running=lambda: {"bootstrap_servers": "kafka:1", "otlp_endpoint": "http://u:of-otlp@h:1"},
        say=said.append,
    )  # fmt: skip
    assert "of-otlp" not in said[0]
    assert "kafka:1" in said[0]


_WORDS = st.text(st.characters(codec="utf-8", exclude_characters="*"), min_size=4, max_size=12)


@given(st.sets(_WORDS, max_size=5), st.lists(st.text(max_size=10), max_size=6))
def test_a_veil_hides_all_it_knows(secrets: set[str], between: list[str]) -> None:
    """Whatever stands around them, and though one may be a part of another."""
    text = "".join(f"{some}{secret}" for some, secret in zip(between, secrets, strict=False))
    veiled = Veil(secrets).over(text)
    assert not [secret for secret in secrets if secret in veiled]


@given(st.text(st.characters(codec="utf-8", exclude_characters="/'\" "), min_size=1, max_size=20))
def test_no_address_shows_its_user(user: str) -> None:
    """Nor a password, with an @ in it or without; what has no user stays as it is."""
    if re.search(r"\s", user):
        return
    assert (
        without_user(f"at http://{user}@host:1/path, it") == f"at http://{HIDDEN}@host:1/path, it"
    )
    assert without_user("at http://host:1/a@b") == "at http://host:1/a@b"


def test_what_is_too_short_to_be_a_secret_is_left_alone() -> None:
    """It would be found in the midst of other words."""
    assert without("the cat sat", {"kafka": {"sasl.password": "at"}}) == "the cat sat"


def test_an_error_about_settings_is_told_without_their_secrets() -> None:
    """The longer one whole, though a shorter one begins it; quoted, too."""
    settings = {"kafka": {"sasl.password": "geheim", "ssl.key.password": 'geheim-"x"-lang'}}
    told = without(
        """refused 'geheim-"x"-lang' and {"it": "geheim-\\"x\\"-lang"}, geheim""", settings
    )
    assert told == """refused '***' and {"it": "***"}, ***"""


def test_every_setting_can_be_shown() -> None:
    """Whatever its type."""
    assert shown({name: getattr(Settings(), name) for name in NAMES}).keys() == set(NAMES)
    assert shown({"a": {"b": [1, None, "x", object()]}}) == {"a": {"b": [1, None, "x", "<object>"]}}
