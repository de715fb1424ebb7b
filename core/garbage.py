"""How often Python looks for cyclic garbage in a worker's processes."""

import gc

THRESHOLDS = (20_000, 20, 100)
"""As for `gc.set_threshold`. A worker makes some twenty objects for each task and drops them all, without a
cycle; at the default of 700 the collector took a tenth of a child's time for nothing."""


def settle_in() -> None:
    """Call it once all is loaded: what is there stays, and need not be looked at again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
