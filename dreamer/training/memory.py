"""Keep the memory that was used once, a setting of the C library; and know when there is no more."""

import ctypes
import sys

import torch

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3     # names of the settings in glibc's malloc.h


def keep_memory(size=1 << 30):
    """Tell glibc to reuse blocks of up to `size` bytes instead of returning them to the system.

    Every tensor above some 100 KB would otherwise be mapped afresh, and the processor would meet a
    page fault at each of its 4 KB. Does nothing where the C library is another.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(MMAP_THRESHOLD, size) or mallopt(MMAP_THRESHOLD, 32 << 20)      # the limit of older ones
        mallopt(TRIM_THRESHOLD, size)


def out_of_memory(error):
    """Is this an error of torch or Python that says that there is not so much memory? On a CPU torch has no kind for it."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "DefaultCPUAllocator" in str(error)
