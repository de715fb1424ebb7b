"""`taskstream …` and `python -m taskstream …`: runs the command line, and ends with its exit code.

0    done
1    failed; one line on standard error says what and what to do
2    bad usage: an option, an argument or a setting that can't be meant
130  interrupted from the keyboard
"""

import sys

from taskstream.core.errors import ConfigError, MissingExtra, TaskstreamError
from taskstream.core.secrets import without_user

DONE, FAILED, BAD_USAGE, INTERRUPTED = 0, 1, 2, 130


def main() -> None:
    """Runs the command that the process was started with; always ends in SystemExit."""
    try:
        sys.exit(_run())
    except ConfigError as error:
        _say(error)
        sys.exit(BAD_USAGE)
    except TaskstreamError as error:
        _say(error)
        sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Who reads our output has seen enough (`taskstream … | head`); nothing is left to say it to.
        sys.stderr.close()
        sys.exit(FAILED)


def _run() -> int:
    try:
        from taskstream.admin.cli import command_line  # noqa: PLC0415 - its libraries are an extra
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("typer", "rich", "httpx", "psutil"):
            raise MissingExtra("the command line", "cli") from error
        raise
    command_line(sys.argv[1:])(prog_name="taskstream")
    return DONE


def _say(error: TaskstreamError) -> None:
    from taskstream.observability import logs  # noqa: PLC0415 - most commands need none

    if logs.is_json():  # then every line is
        logs.logger("taskstream").error("the command failed", error=str(error))
    else:
        print(f"taskstream: {without_user(str(error))}", file=sys.stderr)  # noqa: T201 - the command line


if __name__ == "__main__":
    main()
