"""Who may look, who may act, and what a browser is told to forbid. Pure, but for the clock passed in.

Three attackers are thought of. A page elsewhere that makes the browser send something: each POST needs an
`Origin` that is ours and a token bound to a cookie that no other site's request carries. A name that is
made to point at this machine (DNS rebinding): the `Host` must be one that we know. A text that somebody
put into a task: it is escaped where it is shown, and a browser runs no script that is not our own file.
"""

import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from taskstream.core.errors import ConfigError

SESSION_COOKIE = "taskstream_session"
CSRF_COOKIE = "taskstream_csrf"
CSRF_FIELD = "csrf"
SESSION_SECONDS = 12 * 3600.0
"""How long a login holds."""

LONGEST_USER = 200
"""Characters of a user's name that are kept."""

HEADERS: Mapping[str, str] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Not no-referrer: with that, browsers send `Origin: null` with our own forms.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}
"""With every answer; a static file has a `cache-control` of its own."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who may use a dashboard.

    Args:
        token: what has to be known to get in; empty for nothing.
        user_header: a header in which a proxy in front says who it is; empty for none.
        hosts: names in `Host` that are ours; empty for any.
        read_only: whether nothing may be changed.
        secret: signs cookies.
    """

    token: str = ""
    user_header: str = ""
    hosts: frozenset[str] = frozenset()
    read_only: bool = False
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    @classmethod
    def of(
        cls,
        *,
        token: str = "",
        user_header: str = "",
        hosts: frozenset[str] = frozenset(),
        read_only: bool = False,
    ) -> "Access":
        """The access with a secret that follows from the token, so that several processes share it."""
        hosts = frozenset(host.lower() for host in hosts)
        if not token:
            return cls(user_header=user_header, hosts=hosts, read_only=read_only)
        secret = hashlib.sha256(b"taskstream dashboard " + token.encode()).digest()
        return cls(token, user_header, hosts, read_only, secret)


def bind_hosts(host: str, *, token: str, allowed: frozenset[str]) -> frozenset[str]:
    """Which names in `Host` are ours when listening on `host`.

    Args:
        host: the address to listen on.
        token: what has to be known to get in; empty for nothing.
        allowed: names that somebody gave.

    Raises:
        ConfigError: everybody in the network could come in.
    """
    if is_loopback(host):
        return frozenset({"127.0.0.1", "localhost", "::1", host}) | allowed
    if not token:
        raise ConfigError(
            f"the dashboard would be open to whoever reaches {host}: give a --token, or keep to "
            "--host 127.0.0.1 and come by a tunnel or a proxy"
        )
    return allowed


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False  # a name: who knows what it points at


def knows_host(access: Access, headers: Mapping[str, str]) -> bool:
    """Whether the request was meant for us by name."""
    try:
        name = urlsplit(f"//{headers.get('host', '')}").hostname or ""
    except ValueError:
        return False
    return not access.hosts or name in access.hosts


def is_in(access: Access, headers: Mapping[str, str], now: float) -> bool:
    """Whether the request comes from somebody who knows the token, or nobody has to."""
    if not access.token:
        return True
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and same(given.strip(), access.token):
        return True
    return session_holds(access, cookies(headers).get(SESSION_COOKIE, ""), now)


def user_of(access: Access, headers: Mapping[str, str]) -> str | None:
    """Who the proxy says it is; "" where no proxy is asked, None where it says nothing."""
    if not access.user_header:
        return ""
    name = "".join(one for one in headers.get(access.user_header.lower(), "") if one.isprintable())
    return name.strip()[:LONGEST_USER] or None


def new_session(access: Access, now: float) -> str:
    """The cookie of somebody who gave the right token."""
    until = str(int(now + SESSION_SECONDS))
    return f"{until}.{_signed(access, 'session', until)}"


def session_holds(access: Access, cookie: str, now: float) -> bool:
    """Whether that cookie is one of ours and not too old."""
    until, _, signature = cookie.partition(".")
    genuine = same(signature, _signed(access, "session", until))
    return genuine and until.isascii() and until.isdigit() and now < int(until)


def new_csrf_cookie() -> str:
    """A cookie that no other site can read or send."""
    return secrets.token_urlsafe(24)


def csrf_token(access: Access, cookie: str) -> str:
    """What a form must send beside that cookie."""
    return _signed(access, "csrf", cookie)


def refusal(access: Access, headers: Mapping[str, str], token: str) -> str:
    """Why a POST may not act; empty where it may.

    Args:
        access: who may.
        headers: of the request, names in small letters.
        token: what the form sent.
    """
    # The scheme is not compared: behind a proxy that speaks TLS ours is another one.
    _, _, origin = headers.get("origin", "").partition("://")
    if not origin or origin != headers.get("host", ""):
        return "the request comes from another site"
    if headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return "the request comes from another site"
    cookie = cookies(headers).get(CSRF_COOKIE, "")
    if not cookie or not same(token, csrf_token(access, cookie)):
        return "the form is too old or not ours: load the page again"
    return ""


def cookies(headers: Mapping[str, str]) -> dict[str, str]:
    """The cookies of a request.

    Read by hand: the library's reader stops at the first cookie that it does not like, and other programs
    on this machine leave theirs in the same jar.
    """
    pairs = (part.partition("=") for part in headers.get("cookie", "").split(";"))
    return {name.strip(): value.strip() for name, equals, value in pairs if equals}


def same(given: str, wanted: str) -> bool:
    """Whether two texts are equal, in a time that does not tell how far they are."""
    return hmac.compare_digest(_bytes(given), _bytes(wanted))


def _signed(access: Access, purpose: str, text: str) -> str:
    message = _bytes(f"{purpose}\x1f{text}")
    return hmac.new(access.secret, message, hashlib.sha256).hexdigest()


def _bytes(text: str) -> bytes:
    # What has no UTF-8 is nobody's token, and no reason to fail.
    return text.encode(errors="surrogatepass")
