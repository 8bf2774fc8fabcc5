"""`python -m probes.vram.amd_worker ROOT`: reads AMD GPUs from /sys and /proc below ROOT.

A card's own figures are sysfs's. A process's are the larger of two: its DRM clients' in /proc/PID/fdinfo, and
KFD's in sysfs, for ROCm goes through /dev/kfd and may not show in fdinfo at all (amdgpu_top#49).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from probes.vram.amd import cards
from probes.vram.serving import main

_UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

Held = dict[tuple[str, int], int]
"""Bytes of VRAM by PCI address and pid."""


def read(root: Path) -> dict[str, Any]:
    """Look at every card; what failed is in the answer, in the kernel's words."""
    held = processes(root)
    return {"gpus": [_gpu(card, held) for card in cards(root)]}


def _gpu(card: Path, held: Held) -> dict[str, Any]:
    device = card / "device"
    address = device.resolve().name
    try:
        total, used = _whole(device / "mem_info_vram_total"), _whole(device / "mem_info_vram_used")
    except (OSError, ValueError) as error:
        # EBUSY, EIO or no number at all while the GPU resets.
        return {"gpu": card.name, "message": f"{card.name} ({address}): {error}"}
    if total <= 0 or used < 0:
        return {"gpu": card.name, "message": f"{card.name} ({address}): {used} of {total} bytes used"}
    rows = [[pid, size] for (where, pid), size in sorted(held.items()) if where == address]
    believable = all(0 <= size <= total for _, size in rows)
    return {
        "gpu": card.name,
        "uuid": _text(device / "unique_id") or address,
        "name": _text(device / "product_name") or f"AMD {_text(device / 'device') or 'GPU'}",
        "total_bytes": total,
        "used_bytes": used,
        "reserved_bytes": 0,
        "processes": rows if believable else None,
    }


def processes(root: Path) -> Held:
    """Whose memory it is, as far as we may look: a stranger's fdinfo needs CAP_SYS_PTRACE."""
    held = _drm_clients(root)
    for key, size in _kfd_processes(root).items():
        held[key] = max(held.get(key, 0), size)
    return held


def _drm_clients(root: Path) -> Held:
    """A client is counted once, whatever number of descriptors and forked processes share it."""
    held: Held = {}
    seen: set[tuple[str, str]] = set()
    for pid, descriptor in _drm_descriptors(root):
        with suppress(OSError, ValueError):
            info = _fdinfo((root / "proc" / str(pid) / "fdinfo" / descriptor).read_text())
            address, client = info["drm-pdev"], info["drm-client-id"]
            if info.get("drm-driver") != "amdgpu" or (address, client) in seen:
                continue
            seen.add((address, client))
            # `drm-total-vram` counts shared buffers with each of their users; memory is the older name of resident.
            size = info.get("drm-resident-vram") or info.get("drm-memory-vram") or "0"
            held[address, pid] = held.get((address, pid), 0) + _bytes(size)
    return held


def _drm_descriptors(root: Path) -> Iterator[tuple[int, str]]:
    for process in sorted((root / "proc").glob("[0-9]*"), key=lambda path: (len(path.name), path.name)):
        with suppress(OSError):  # it has ended, or is not ours to look at
            for descriptor in os.listdir(process / "fd"):  # noqa: PTH208 (names, not paths)
                with suppress(OSError):
                    if os.readlink(process / "fd" / descriptor).startswith("/dev/dri/"):  # noqa: PTH115 (text, not a path)
                        yield int(process.name), descriptor


class _Fdinfo(dict[str, str]):
    """The keys of one descriptor; one that is missing is a ValueError, as one that is no number is."""

    def __missing__(self, key: str) -> str:
        raise ValueError(f"no {key}")


def _fdinfo(text: str) -> Mapping[str, str]:
    pairs = (line.partition(":") for line in text.splitlines())
    return _Fdinfo({key.strip(): value.strip() for key, colon, value in pairs if colon})


def _bytes(text: str) -> int:
    """A size as the kernel writes it: without a unit it is bytes (drm-usage-stats.rst)."""
    number, _, unit = text.partition(" ")
    return int(number) * _UNITS.get(unit.strip(), 1)


def _kfd_processes(root: Path) -> Held:
    held: Held = {}
    kfd = root / "sys/class/kfd/kfd"
    addresses = dict(_kfd_addresses(kfd))
    for file in sorted(kfd.glob("proc/[0-9]*/vram_*")):
        with suppress(OSError, ValueError):
            address = addresses.get(file.name.removeprefix("vram_"))
            size = _whole(file)
            if address is not None and size > 0:
                held[address, int(file.parent.name)] = size
    return held


def _kfd_addresses(kfd: Path) -> Iterator[tuple[str, str]]:
    """The PCI address of each GPU of KFD's topology; gpu_id 0 is a CPU."""
    for node in kfd.glob("topology/nodes/*"):
        with suppress(OSError, ValueError):
            gpu = _text(node / "gpu_id")
            lines = (line.split() for line in (node / "properties").read_text().splitlines())
            properties = {line[0]: line[1] for line in lines if len(line) == 2}
            location, domain = int(properties["location_id"]), int(properties.get("domain", "0"))
            if gpu not in {"", "0"}:
                yield gpu, f"{domain:04x}:{location >> 8:02x}:{(location >> 3) & 31:02x}.{location & 7}"


def _whole(file: Path) -> int:
    return int(file.read_text())


def _text(file: Path) -> str:
    with suppress(OSError):
        return file.read_text(errors="replace").strip()
    return ""


if __name__ == "__main__":
    root = Path(sys.argv[1])
    main(lambda: read(root))
