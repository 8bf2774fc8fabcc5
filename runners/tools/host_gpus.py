"""Read the GPUs: NVIDIA's by the driver's library (NVML), AMD's by the files of their driver."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import msgspec
import pynvml
from msgspec import UNSET, UnsetType

from runners.tools.signature import ToolError

_DRM: Final = "/sys/class/drm"
_PCI: Final = "/sys/bus/pci/devices"
_VENDOR_AMD: Final = "0x1002"
_VENDOR_NVIDIA: Final = "0x10de"
_DISPLAY_CLASS: Final = "0x03"


class Gpu(msgspec.Struct, frozen=True):
    """Describes one GPU: memory in bytes, temperature in degrees Celsius."""

    name: str
    total: int
    used: int
    temperature: int | UnsetType = UNSET


def gpus() -> list[Gpu]:
    """Return all GPUs. Raises ToolError where there is one that cannot be read."""
    return [*_nvidia(), *_amd()]


def _nvidia() -> Iterator[Gpu]:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError_LibraryNotFound:
        if _has_nvidia():
            raise ToolError(
                "there is an NVIDIA card, and the driver's library libnvidia-ml.so.1 is missing",
                "install the driver of NVIDIA, with the package that has nvidia-smi",
            ) from None
        return
    except pynvml.NVMLError as error:
        if not _has_nvidia():
            return
        raise _unreadable(error) from None
    try:
        yield from [_of(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError as error:
        raise _unreadable(error) from None
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _unreadable(error: Exception) -> ToolError:
    return ToolError(f"NVIDIA's driver says: {error}", "nvidia-smi should work first; epactl doctor")


def _of(index: int) -> Gpu:
    handle: Any = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    temperature: int | UnsetType = UNSET
    with suppress(pynvml.NVMLError):
        temperature = int(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU))
    return Gpu(str(pynvml.nvmlDeviceGetName(handle)), int(memory.total), int(memory.used), temperature)


def _amd() -> Iterator[Gpu]:
    for name in sorted(_names(_DRM)):
        device = f"{_DRM}/{name}/device"
        if "-" not in name and name.startswith("card") and _text(f"{device}/vendor") == _VENDOR_AMD:
            with suppress(ValueError):
                total, used = (int(_text(f"{device}/mem_info_vram_{what}")) for what in ("total", "used"))
                yield Gpu(_text(f"{device}/product_name") or f"AMD {name}", total, used, _heat(device))


def _heat(device: str) -> int | UnsetType:
    for name in _names(f"{device}/hwmon"):
        with suppress(ValueError):
            return int(_text(f"{device}/hwmon/{name}/temp1_input")) // 1000
    return UNSET


def _has_nvidia() -> bool:
    return any(
        _text(f"{_PCI}/{name}/vendor") == _VENDOR_NVIDIA
        and _text(f"{_PCI}/{name}/class").startswith(_DISPLAY_CLASS)
        for name in _names(_PCI)
    )


def _names(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
