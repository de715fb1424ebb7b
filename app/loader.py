"""From "module:attribute" to an App: how the command line and the worker's children find one."""

import sys
from pathlib import Path

from taskstream.app.app import App
from taskstream.app.modules import import_module
from taskstream.core.errors import ConfigError
from taskstream.core.shadow import MARK


def load(path: str, *, directory: Path | None = None) -> App:
    """The App at `module:attribute`.

    Args:
        path: dotted module name, a colon, and the App's name in it; `shop.main` alone means
            `shop.main:app`. With `@nightly` behind it, its shadow of that name.
        directory: where modules are looked for before what is installed; None is the working
            directory. It stays on the import path: the app's tasks are imported from there later.

    Raises:
        ConfigError: no such module or attribute, or it is not an App; says what was found instead;
            or there can be no shadow of that name.
    """
    path, _, shadow = path.partition(MARK)
    module_name, _, attribute = path.partition(":")
    attribute = attribute or "app"
    place = str((directory or Path.cwd()).resolve())
    if place not in sys.path:
        sys.path.insert(0, place)
    module = import_module(module_name, wanted_by=f"APP {path!r}, looked for in {place}")
    found = getattr(module, attribute, None)
    if isinstance(found, App):
        if shadow:
            found.enter_shadow(shadow)
        return found
    apps = [
        f"{module_name}:{name}" for name, value in vars(module).items() if isinstance(value, App)
    ]
    raise ConfigError(
        f"APP {path!r}: {attribute!r} in module {module_name} is no App; "
        + (f"found {', '.join(apps)}" if apps else "the module holds none")
    )
