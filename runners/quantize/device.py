"""Choose the device, measure the memory on it, and shrink micro-batches when memory runs out."""

from __future__ import annotations

import gc
import resource
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from runners.quantize.fault import HsaqError, SettingsError

T = TypeVar("T")


def choose_device(wanted: str) -> str:
    """`auto` takes CUDA (ROCm's torch answers to that name too) where there is one, else the CPU."""
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise SettingsError(f"--device {wanted}: torch {torch.__version__} sees no GPU; use --device cpu")
    return wanted


def computing_dtype(device: str) -> torch.dtype:
    """bfloat16 on a GPU; float32 on a CPU, where it is faster and the weights' bfloat16 values stay exact."""
    return torch.bfloat16 if device.startswith("cuda") else torch.float32


def prepare_threads(threads: int) -> None:
    """Fix the number of threads: sums are cut differently with another, and scores differ in their last digits."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(mode=True, warn_only=True)


def peak_bytes(device: str) -> int:
    """Return the most memory that was taken: the device's, or on a CPU the whole process's."""
    if device.startswith("cuda"):
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class MicroBatch:
    """Holds how many windows go through a block at once. Out of memory halves it for good; one window must fit."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.halvings = 0

    def parts(self, count: int) -> Iterator[slice]:
        """Return the windows' indices in pieces of this size."""
        return (slice(start, min(start + self.size, count)) for start in range(0, count, self.size))

    def retrying(self, work: Callable[[], T]) -> T:
        """Do the work; after running out of memory, do it again from its start with half the size."""
        while True:
            try:
                return work()
            except torch.OutOfMemoryError as error:
                if self.size == 1:
                    raise HsaqError(
                        f"one window does not fit into this device's memory ({error}); use a shorter --window"
                    ) from error
            self.size //= 2
            self.halvings += 1
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
