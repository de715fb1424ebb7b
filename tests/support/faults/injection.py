"""What is changed in the processes of a worker as their modules are loaded; nothing of it is in the product.

The child tells the journal which rows the store has acknowledged and which it looks up, without which
nobody could say whether a task was run again for a good reason. Where a test asks for it, a worker's
rows are held back (`held`), or one line of what makes the promises hold is broken (`mutations`).
"""

import os
import sys
from collections.abc import Callable, Mapping
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

from tests.support.faults.held import HELD, hold
from tests.support.faults.journal import note_asked, note_stored

MUTATION = "TASKSTREAM_TEST_FAULTS_MUTATION"
"""Names a mutation in a worker's environment; empty for none."""

Patch = Callable[[Any], None]
"""Changes a module that has just been loaded."""


def install() -> None:
    """Sees to it that the modules concerned are changed when they are loaded."""
    mutation = os.environ.get(MUTATION, "")
    patches: list[tuple[str, Patch]] = [("taskstream.consumer.child.service", tell_the_journal)]
    if os.environ.get(HELD):
        patches.append(("taskstream.results.cassandra", hold))
    if mutation:
        from tests.support.faults.mutations import MUTATIONS

        patches += MUTATIONS[mutation].patches
    # Nothing that is imported above may load the product: it would keep its unpatched functions.
    late = [name for name, _ in patches if name in sys.modules]
    if late:
        raise ImportError(f"{', '.join(late)}: loaded before they could be patched")
    sys.meta_path.insert(0, _Patching(patches))


def tell_the_journal(service: Any) -> None:
    """Notes each row that is stored, before anybody hears of it, and each look-up, before it is made."""
    stored, recall = service.Service._stored, service.Service._recall

    def noting_stored(self: Any, tickets: Any) -> None:
        note_stored(row for _, row in tickets)
        stored(self, tickets)

    def noting_recall(self: Any, attempts: Any) -> None:
        note_asked(one.envelope.id for one in attempts if one.given.lookup)
        recall(self, attempts)

    service.Service._stored, service.Service._recall = noting_stored, noting_recall


class _Patching:
    """Finds modules as Python does, and lets those concerned be patched once they are loaded."""

    def __init__(self, patches: list[tuple[str, Patch]]) -> None:
        self._patches: Mapping[str, list[Patch]] = {
            name: [patch for module, patch in patches if module == name] for name, _ in patches
        }

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        patches = self._patches.get(name)
        spec = None if patches is None else PathFinder.find_spec(name, path, target)
        if patches is None or spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def load_and_patch(module: Any) -> None:
            load(module)
            for patch in patches:
                patch(module)

        spec.loader.exec_module = load_and_patch  # type: ignore[method-assign]
        return spec
