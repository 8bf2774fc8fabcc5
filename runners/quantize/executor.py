"""Run the work on blocks in this process, or as Ray tasks; the results are the same bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from runners.quantize.checkpoint import Checkpoint
from runners.quantize.device import computing_dtype, peak_bytes, prepare_threads
from runners.quantize.fault import SettingsError
from runners.quantize.network import Network

R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")


class BlockWork(Protocol[R_co]):
    """Work on one block that needs nothing but the model and files: it may be sent to another process."""

    def __call__(self, network: Network, index: int) -> R_co: ...


@dataclass(frozen=True, slots=True)
class Done(Generic[R]):
    """Holds one block's result and its cost."""

    index: int
    result: R
    seconds: float
    peak_bytes: int


class Executor(Protocol):
    """Does work on blocks; results come in any order."""

    def run(self, work: BlockWork[R], indices: Sequence[int]) -> Iterator[Done[R]]: ...


def timed(work: BlockWork[R], network: Network, index: int) -> Done[R]:
    """Do it here and now."""
    began = time.monotonic()
    result = work(network, index)
    return Done(index, result, time.monotonic() - began, peak_bytes(network.device))


class Local:
    """Works on one block after another, in this process."""

    def __init__(self, network: Callable[[], Network]) -> None:
        self._network = network

    def run(self, work: BlockWork[R], indices: Sequence[int]) -> Iterator[Done[R]]:
        """Yield them in the order given."""
        for index in indices:
            yield timed(work, self._network(), index)


class _Worker:
    """Lives in a Ray actor: the model is opened once and streamed from its files."""

    def __init__(self, model: Path, device: str, threads: int) -> None:
        prepare_threads(threads)
        self._network = Network(Checkpoint.open(model), device, computing_dtype(device))

    def do(self, work: BlockWork[R], index: int) -> Done[R]:
        return timed(work, self._network, index)


class RayTasks:
    """Blocks spread over Ray actors, each with the run's own number of threads so that sums are cut alike.

    The run's folder and the model must be visible to every node under the same paths.
    """

    def __init__(
        self, model: Path, device: str, threads: int, workers: int, address: str | None = None
    ) -> None:
        try:
            import ray  # noqa: PLC0415 - the ray extra
        except ImportError as error:
            raise SettingsError("--ray: Ray is not installed; pip install 'epad[quantize,ray]'") from error
        self._ray = ray
        if not ray.is_initialized():
            ray.init(address=address, include_dashboard=False, log_to_driver=False)
        gpus = 1 if device.startswith("cuda") else 0
        worker = ray.remote(num_cpus=threads, num_gpus=gpus)(_Worker)
        self._workers = [worker.remote(model, device, threads) for _ in range(workers)]

    def run(self, work: BlockWork[R], indices: Sequence[int]) -> Iterator[Done[R]]:
        """Yield the results as they come."""
        from ray.util import ActorPool  # noqa: PLC0415

        pool = ActorPool(self._workers)
        yield from pool.map_unordered(lambda actor, index: actor.do.remote(work, index), list(indices))

    def close(self) -> None:
        """Let the workers go."""
        for worker in self._workers:
            self._ray.kill(worker)
