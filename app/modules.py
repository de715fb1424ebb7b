"""Importing the modules that hold an app's tasks, with errors that say who wanted them."""

import importlib
from types import ModuleType

from taskstream.core.errors import ConfigError


def import_module(name: str, *, wanted_by: str) -> ModuleType:
    """The module of that name.

    Args:
        name: dotted module name.
        wanted_by: who asks for it, for the error message ("App('shop', include=...)").

    Raises:
        ConfigError: it does not exist or fails to import; the reason is chained.
    """
    try:
        return importlib.import_module(name)
    except ConfigError:
        raise  # already ours: a wrong definition in that module
    except ModuleNotFoundError as error:
        missing = error.name or name
        if f"{name}.".startswith(f"{missing}."):
            raise ConfigError(f"no module named {name!r} ({wanted_by})") from error
        raise ConfigError(
            f"module {name!r} ({wanted_by}) imports {missing!r}, which is not installed"
        ) from error
    except Exception as error:
        raise ConfigError(
            f"module {name!r} ({wanted_by}) failed to import: {type(error).__name__}: {error}"
        ) from error
