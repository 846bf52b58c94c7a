"""Freed memory that stays with the process.

glibc hands large blocks back to the system as soon as they are freed, and each step of a training then begins with pages
that the system has to find and to clear again, which costs small convolutional networks much of their time.
`keep_freed()` tells it to keep them; where the C library is another one, nothing happens. Results are the same to the bit.

Source: mallopt(3).
"""

from __future__ import annotations

import ctypes
from functools import cache

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
"""glibc's names, without their M_."""
LIMIT = 2**31 - 1
"""Bytes: blocks up to this size come from the heap, and it is not made smaller until so many are free at its end."""


@cache
def keep_freed() -> bool:
    """From now on, and for this process: whether the C library could be told."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    # older versions allow no such threshold, but no such blocks at all
    apart = mallopt(MMAP_THRESHOLD, LIMIT) or mallopt(MMAP_MAX, 0)
    return bool(apart and mallopt(TRIM_THRESHOLD, LIMIT))
