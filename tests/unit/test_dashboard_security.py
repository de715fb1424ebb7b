"""Who may look at the dashboard and who may act, as pure rules.

Broken on purpose once, and seen to fail: `refusal` without the look at the origin, at the site, and at the
token; a session without its end; a name as a loopback address.
"""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstream.admin.dashboard.render import STATIC
from taskstream.admin.dashboard.security import (
    CSRF_COOKIE,
    HEADERS,
    SESSION_COOKIE,
    SESSION_SECONDS,
    Access,
    bind_hosts,
    cookies,
    csrf_token,
    is_in,
    is_loopback,
    knows_host,
    new_session,
    refusal,
    user_of,
)
from taskstream.core.errors import ConfigError

NOW = 1_764_000_000.0
OURS = Access.of(token="secret")
COOKIE = "a-cookie"


def headers(**changes: str) -> dict[str, str]:
    """Those of a form of ours, sent by a browser."""
    known = {
        "host": "localhost:8787",
        "origin": "http://localhost:8787",
        "cookie": f'other={{"a": 1}}; {CSRF_COOKIE}={COOKIE}',
        "sec-fetch-site": "same-origin",
    }
    given = {name.replace("_", "-"): value for name, value in changes.items()}
    return {name: value for name, value in {**known, **given}.items() if value}


def test_a_form_of_ours_may_act() -> None:
    """With and without a TLS proxy in front, and from a browser that says nothing of the site."""
    token = csrf_token(OURS, COOKIE)
    assert refusal(OURS, headers(), token) == ""
    assert refusal(OURS, headers(origin="https://localhost:8787"), token) == ""
    assert refusal(OURS, headers(sec_fetch_site=""), token) == ""


@pytest.mark.parametrize(
    "changes",
    [
        {"origin": ""},
        {"origin": "null"},
        {"origin": "http://evil.example"},
        {"origin": "http://localhost:8787.evil.example"},
        {"origin": "http://localhost:9999"},
        {"origin": "http://["},
        {"origin": "localhost:8787"},
        {"origin": "http://evil.example@localhost:8787"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"cookie": ""},
        {"cookie": f"{CSRF_COOKIE}="},
        {"cookie": f"{CSRF_COOKIE}=another"},
    ],
)
def test_any_other_request_may_not(changes: dict[str, str]) -> None:
    """Another site's, one that hides where it comes from, and one without the cookie of the form."""
    assert refusal(OURS, headers(**changes), csrf_token(OURS, COOKIE))


@given(st.text())
def test_a_made_up_form_token_is_refused(token: str) -> None:
    """Also one that is signed for another cookie, or by another dashboard."""
    assert refusal(OURS, headers(), token)
    assert refusal(OURS, headers(), csrf_token(OURS, "another"))
    assert refusal(OURS, headers(), csrf_token(Access.of(token="other"), COOKIE))
    assert refusal(Access(), headers(), csrf_token(Access(), COOKIE))


def test_the_token_lets_in_as_a_bearer_and_as_a_session() -> None:
    """A session holds for half a day, and over processes with the same token."""
    assert not is_in(OURS, headers(), NOW)
    assert is_in(OURS, headers(authorization="Bearer secret"), NOW)
    assert not is_in(OURS, headers(authorization="Bearer secre"), NOW)
    assert not is_in(OURS, headers(authorization="Basic secret"), NOW)
    session = headers(cookie=f"{SESSION_COOKIE}={new_session(Access.of(token='secret'), NOW)}")
    assert is_in(OURS, session, NOW + SESSION_SECONDS - 1)
    assert not is_in(OURS, session, NOW + SESSION_SECONDS)
    assert not is_in(Access.of(token="new"), session, NOW)
    assert is_in(Access(), headers(), NOW)


@given(st.text(st.characters(exclude_characters=";")))
def test_a_made_up_session_lets_nobody_in(cookie: str) -> None:
    """Whatever stands in it; also a real signature with a later end."""
    assert not is_in(OURS, headers(cookie=f"{SESSION_COOKIE}={cookie}"), NOW)
    until, _, signature = new_session(OURS, NOW).partition(".")
    later = f"{SESSION_COOKIE}={int(until) + 9}.{signature}"
    assert not is_in(OURS, headers(cookie=later), NOW)


def test_who_a_visitor_is_comes_from_the_proxy_alone() -> None:
    """Nobody without the header, and no control characters in a name."""
    behind = Access.of(user_header="X-Forwarded-User")
    assert user_of(behind, headers(x_forwarded_user="ann\x1b[31m ")) == "ann[31m"
    assert user_of(behind, headers()) is None
    assert user_of(Access(), headers(x_forwarded_user="ann")) == ""


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False),
        ("::", False), ("10.0.0.7", False), ("127.0.0.1.evil.example", False), ("dash.example", False),
    ],
)  # fmt: skip
def test_beyond_this_machine_a_token_is_needed(host: str, loopback: bool) -> None:
    """Without one it refuses to listen where others reach it; a name may point anywhere."""
    assert is_loopback(host) is loopback
    if loopback:
        assert host in bind_hosts(host, token="", allowed=frozenset())
    else:
        with pytest.raises(ConfigError, match="--token"):
            bind_hosts(host, token="", allowed=frozenset())
        assert bind_hosts(host, token="x", allowed=frozenset({"a"})) == {"a"}


def test_only_known_names_are_answered() -> None:
    """A name of somebody else's that points at this machine reads nothing (DNS rebinding)."""
    access = Access.of(hosts=bind_hosts("127.0.0.1", token="", allowed=frozenset({"dash.example"})))
    for name in ("127.0.0.1:8787", "localhost", "[::1]:8787", "dash.example:443"):
        assert knows_host(access, {"host": name}), name
    for name in ("evil.example:8787", "localhost.evil.example", "", "evil@x", "[", "[::1"):
        assert not knows_host(access, {"host": name}), name


def test_cookies_of_others_do_not_hide_ours() -> None:
    """Other programs on this machine write into the same jar what no parser likes."""
    assert cookies({"cookie": 'x={"a": [1]}; bad; b=1=2;c=3'}) == {
        "x": '{"a": [1]}',
        "b": "1=2",
        "c": "3",
    }


def test_the_policy_allows_no_script_of_anybody_else() -> None:
    """No inline script or style, no frame, no other origin; and our own files need none of that."""
    policy = HEADERS["content-security-policy"]
    assert "unsafe" not in policy
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    for path in (STATIC.parent / "templates").rglob("*.html"):
        text = path.read_text()
        assert not re.search(
            r"<script(?![^>]* src=)|<style|\sstyle=|\son[a-z]+=|javascript:", text
        ), path
        assert not re.search(r"(src|href|action)=\"(https?:)?//", text), path
        assert set(re.findall(r"\|\s*safe|Markup", text)) <= {"|safe"}, path


def test_what_is_not_escaped_was_rendered_before() -> None:
    """`safe` stands behind parts of pages alone, which come out of templates themselves."""
    for path in (STATIC.parent / "templates").rglob("*.html"):
        for before in re.findall(r"\{\{([^}]*)\|safe", path.read_text()):
            assert re.fullmatch(r'\s*(part\("[a-z_]+"\)|text)\s*', before), (path, before)


def test_vendored_files_are_those_that_are_told() -> None:
    """Each with its version, licence and hash in the list beside them, and none without."""
    import hashlib

    vendor = STATIC / "vendor"
    told = dict(
        re.findall(
            r"^\| (\S+) \|.*\| ([0-9a-f]{64}) \|$", (vendor / "README.md").read_text(), re.MULTILINE
        )
    )
    files = {path.name for path in vendor.iterdir() if path.suffix in (".js", ".css")}
    assert set(told) == files
    for name, digest in told.items():
        assert hashlib.sha256((vendor / name).read_bytes()).hexdigest() == digest, name
        assert (vendor / f"{name.split('.')[0]}.LICENSE").is_file()
