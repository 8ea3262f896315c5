"""What Python's garbage collector need not look through again and again."""

import gc


def keep_what_is_loaded() -> None:
    """To be called once all is imported, which lives as long as the process: some 200,000 objects.

    A list of a thousand VMs makes the collector look through all that lives several times, which
    took as long as everything else of it together (docs/performance.md).
    """
    gc.collect()
    gc.freeze()
