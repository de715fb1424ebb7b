"""Forms that act: read in bounds, and refused where they are not ours."""

from collections.abc import Mapping
from urllib.parse import parse_qs

from starlette.exceptions import HTTPException
from starlette.requests import Request

from taskstream.admin.dashboard.security import CSRF_FIELD, refusal
from taskstream.admin.dashboard.shell import Shell
from taskstream.core.errors import ConfigError

LARGEST_FORM_BYTES = 2 * 1024 * 1024
"""Arguments may be corrected as text, and a record may have a megabyte."""

LONGEST_REASON = 1000


async def read_form(shell: Shell, request: Request, *, acts: bool = True) -> dict[str, str]:
    """The fields of a form of ours; refuses any other, and those that act where nothing may."""
    if acts and shell.access.read_only:
        raise HTTPException(403, "This dashboard is for reading only")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_FORM_BYTES:
            raise HTTPException(413, "The form is too large")
    fields = parse_qs(body.decode(errors="replace"), keep_blank_values=True)
    form = {name: values[-1] for name, values in fields.items()}
    why = refusal(shell.access, request.scope["state"]["headers"], form.get(CSRF_FIELD, ""))
    if why:
        raise HTTPException(403, f"Refused: {why}")
    return form


def reason_of(form: Mapping[str, str]) -> str:
    """Why somebody acts. Raises ConfigError where nobody says."""
    reason = form.get("reason", "").strip()[:LONGEST_REASON]
    if not reason:
        raise ConfigError("a reason is needed: whoever reads the audit log will ask for it")
    return reason


def number(text: str) -> int:
    """The number of a page in an address; 1 for whatever is none."""
    return min(int(text), 10**6) if text.isascii() and text.isdigit() and int(text) else 1


def counted(count: int, noun: str) -> str:
    """So many of something: "1 task", "1,200 tasks"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
