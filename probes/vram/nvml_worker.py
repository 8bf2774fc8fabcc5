"""`python -m probes.vram.nvml_worker`: reads the GPUs through NVML, in a process that can be killed.

A driver call may hang for ever, and a thread in it cannot be abandoned; the library may crash the process
when a GPU falls off the bus. So it is called here alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import pynvml

from probes.vram.serving import main

MAX_PROCESSES = 1024
"""A longer process table of one GPU is not passed on: the reader's line limit is 1 MiB, for all GPUs."""

MAX_PID = 4_194_304  # PID_MAX_LIMIT on 64 bit

MAX_EVENTS = 64
"""Of Xids between two requests; a card in trouble may report without end."""

_STALE = frozenset({pynvml.NVML_ERROR_UNINITIALIZED, pynvml.NVML_ERROR_UNKNOWN})


class Driver:
    """NVML, initialised when first asked and again when it has forgotten that it was."""

    def __init__(self) -> None:
        self._ready = False
        self._events: Any = None

    def read(self) -> dict[str, Any]:
        """Read every GPU; a failure is in the answer, with the driver's own code."""
        try:
            return self._read()
        except pynvml.NVMLError as error:
            if not self._ready or error.value not in _STALE:
                return _failure(error)
        self._forget()
        try:
            return self._read()
        except pynvml.NVMLError as error:
            return _failure(error)

    def _read(self) -> dict[str, Any]:
        if not self._ready:
            pynvml.nvmlInit()
            self._ready = True
            self._listen()
        xids = list(self._xids())
        gpus = [_gpu(index) for index in range(pynvml.nvmlDeviceGetCount())]
        for gpu in gpus:
            if gpu.get("code") in _STALE:
                raise pynvml.NVMLError(gpu["code"])
        return {"gpus": gpus, "xids": xids}

    def _listen(self) -> None:
        """Ask to be told of Xids; a driver that cannot (WSL, a virtual GPU) is read without."""
        with suppress(pynvml.NVMLError):
            self._events = pynvml.nvmlEventSetCreate()
            for index in range(pynvml.nvmlDeviceGetCount()):
                with suppress(pynvml.NVMLError):
                    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
                    pynvml.nvmlDeviceRegisterEvents(
                        handle, pynvml.nvmlEventTypeXidCriticalError, self._events
                    )

    def _xids(self) -> Iterator[list[Any]]:
        """Yield the errors reported since the last time; the end of it is an error, a timeout of 0 ms."""
        with suppress(pynvml.NVMLError):
            for _ in range(MAX_EVENTS if self._events is not None else 0):
                event = pynvml.nvmlEventSetWait_v2(self._events, 0)
                if event.eventType == pynvml.nvmlEventTypeXidCriticalError:
                    yield [str(pynvml.nvmlDeviceGetIndex(event.device)), int(event.eventData)]

    def _forget(self) -> None:
        self._ready, self._events = False, None
        try:
            pynvml.nvmlShutdown()
        except pynvml.NVMLError:
            return  # it was not initialised, which is what is wanted


def _gpu(index: int) -> dict[str, Any]:
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        total, used, reserved = _memory(handle)
        return {
            "gpu": str(index),
            "uuid": str(pynvml.nvmlDeviceGetUUID(handle)),
            "name": str(pynvml.nvmlDeviceGetName(handle)),
            "total_bytes": total,
            "used_bytes": used,
            "reserved_bytes": reserved,
            "processes": _processes(handle, total),
        }
    except pynvml.NVMLError as error:
        return {"gpu": str(index), **_failure(error)}


def _memory(handle: Any) -> tuple[int, int, int]:
    """Total, used and reserved bytes. Version 1 counts the reserve as used, version 2 tells them apart."""
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    except pynvml.NVMLError as error:
        if error.value not in _TOO_OLD:
            raise
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        return int(memory.total), int(memory.used), 0
    return int(memory.total), int(memory.used), int(memory.reserved)


_TOO_OLD = frozenset(
    {
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
    }
)


def _processes(handle: Any, total: int) -> list[list[int | None]] | None:
    """Return every process and its bytes, or None if the driver gives no plausible table."""
    rows: list[tuple[int, int | None]] = []
    readers: Iterable[Callable[[Any], Iterable[Any]]] = (
        pynvml.nvmlDeviceGetComputeRunningProcesses,
        pynvml.nvmlDeviceGetGraphicsRunningProcesses,
    )
    for reader in readers:
        try:
            rows += [(process.pid, process.usedGpuMemory) for process in reader(handle)]
        except (pynvml.NVMLError, pynvml.NVMLLibraryMismatchError):
            return None
    return believable(rows, total)


def believable(rows: Iterable[tuple[int, int | None]], total: int) -> list[list[int | None]] | None:
    """Join the rows of one process; one impossible row discredits the table.

    Drivers and library versions that disagree about the row's layout give pid and size swapped or shifted
    (nvitop#79, pynvml#50, go-nvml#21): a row that happens to look right is then wrong as well.
    """
    joined: dict[int, int | None] = {}
    for pid, used in rows:
        if not 0 < pid <= MAX_PID or not 0 <= (used or 0) <= total:
            return None
        former = joined.get(pid)
        joined[pid] = former if used is None else max(used, former or 0)
    return [[pid, used] for pid, used in joined.items()] if len(joined) <= MAX_PROCESSES else None


def _failure(error: pynvml.NVMLError) -> dict[str, Any]:
    return {"code": int(error.value), "message": str(error)}


if __name__ == "__main__":
    main(Driver().read)
