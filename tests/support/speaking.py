"""An app whose tasks speak in every way a user's code does; a worker imports it, a test builds it."""

import logging
import os
import subprocess
import sys
import threading
import warnings
from typing import Any

from taskstream import App, Retry, current

NAME = "TASKSTREAM_TEST_APP"
PASSWORD = "TASKSTREAM_TEST_PASSWORD"
"""Where the tests leave the password of the result store for an app that needs one."""

_log = logging.getLogger("shop")


def speak(word: str) -> None:
    """Logs, prints, and logs an error with its traceback."""
    _log.info("logged %s", word)
    print("printed", word)  # noqa: T201
    print("complained", word, file=sys.stderr)  # noqa: T201
    try:
        fail(word)
    except ValueError:
        _log.exception("caught %s", word)


def fail(word: str) -> None:
    """Raises an error with a text of its own."""
    raise ValueError(word)


def build(name: str, **settings: Any) -> App:
    """The app of that name."""
    app = App(name, **settings)

    @app.task(retry=None)
    async def in_loop(secret: str) -> str:
        speak("in the loop")
        return secret

    @app.task(retry=None)
    def in_thread(secret: str) -> str:
        speak("in a thread")
        warnings.warn("out of fashion", stacklevel=1)
        broken = threading.Thread(target=lambda: 1 / 0, name="broken")
        broken.start()
        broken.join()
        subprocess.run([sys.executable, "-c", "pass"], check=True, stdout=sys.stdout)
        return secret

    @app.task(retry=None, runs="process")
    def in_process(secret: str) -> str:
        speak("in a process")
        return secret

    @app.task(retry=Retry(attempts=2, delays=(0.05,)))
    async def fails_once(secret: str) -> str:
        if current().attempt == 1:
            raise RuntimeError("not yet")
        return secret

    return app


def _settings() -> dict[str, Any]:
    password = os.environ.get(PASSWORD)
    if password is None:
        return {}
    from cassandra.auth import PlainTextAuthProvider

    return {"cassandra": {"auth_provider": PlainTextAuthProvider("taskstream", password)}}


if NAME in os.environ:
    app = build(os.environ[NAME], **_settings())
