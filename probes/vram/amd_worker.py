"""`python -m probes.vram.amd_worker ROOT`: reads AMD GPUs from /sys and /proc below ROOT.

A card's own figures are sysfs's. A process's are the larger of two: its DRM clients' in /proc/PID/fdinfo, and
KFD's in sysfs, for ROCm goes through /dev/kfd and may not show in fdinfo at all (amdgpu_top#49).

An APU has no memory of its own. Its VRAM is a part of the system's that the firmware carved out, often small and
always nearly full; models live in GTT, which is system memory as well. There the two count together (nvtop#428). A
carve-out that is larger than its GTT is where the models live, and is judged like a card.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probes.vram.amd import cards
from probes.vram.serving import main

SMALL_BYTES, SMALL_TIMES = 4 << 30, 8
TINY_BYTES, TINY_TIMES = 1 << 30, 4
"""Where nothing else tells an APU from a card: VRAM of at most so much beside so many times as much GTT. The kernel
gives half of the system's memory as GTT to every GPU, so that a card of 24 GiB has 16 or 64 GiB of it as well."""
# amdgpu makes the first two for cards alone and the third for all (amdgpu_pm.c, default_attr_update).
_OF_CARDS, _OF_ALL = ("mem_busy_percent", "pcie_bw"), "gpu_busy_percent"

_UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

Held = dict[tuple[str, int], int]
"""Bytes by PCI address and pid: of VRAM, and of GTT where that is shared."""


def read(root: Path) -> dict[str, Any]:
    """Look at every card; a failure is in the answer, in the kernel's words."""
    pools = [(card, *_pool(card)) for card in cards(root)]
    shared = frozenset(_address(card) for card, pool, _ in pools if pool is not None and pool.is_shared)
    held = processes(root, shared)
    return {"gpus": [_gpu(card, pool, failure, held) for card, pool, failure in pools]}


@dataclass(frozen=True, slots=True)
class _Pool:
    """Holds the memory that allocations of one GPU come from; `is_shared` if GTT is part of it."""

    total: int
    used: int
    is_shared: bool = False


def _pool(card: Path) -> tuple[_Pool | None, str]:
    """Return the memory of a card, or None and why it cannot be judged."""
    device = card / "device"
    try:
        vram = _Pool(_whole(device / "mem_info_vram_total"), _whole(device / "mem_info_vram_used"))
        if vram.total <= 0 or vram.used < 0:
            return None, f"{vram.used} of {vram.total} bytes used"
        gtt = _gtt(device, vram.total)
    except (OSError, ValueError) as error:
        # EBUSY, EIO or no number at all while the GPU resets.
        return None, str(error)
    if gtt is None or not _is_apu(device, vram.total, gtt.total):
        return vram, ""
    return _Pool(vram.total + gtt.total, vram.used + gtt.used, is_shared=True), ""


def _gtt(device: Path, vram_total: int) -> _Pool | None:
    """Return the GPU's share of system memory; None if it does not matter. Raises OSError, ValueError.

    Without it a small VRAM cannot be judged: as a card's it would be full, as a carve-out it says nothing.
    """
    try:
        gtt = _Pool(_whole(device / "mem_info_gtt_total"), _whole(device / "mem_info_gtt_used"))
    except FileNotFoundError:
        if vram_total < TINY_BYTES:
            raise
        return None
    except (OSError, ValueError):
        if vram_total <= SMALL_BYTES:
            raise
        return None
    if gtt.total < 0 or gtt.used < 0:
        raise ValueError(f"{gtt.used} of {gtt.total} bytes of GTT used")
    return gtt


def _is_apu(device: Path, vram: int, gtt: int) -> bool:
    """Tell if the VRAM is a carve-out of the memory that the GTT is in, and the smaller part of the two."""
    if any((device / name).exists() for name in _OF_CARDS):
        return False
    if (device / _OF_ALL).exists():
        return gtt > vram
    return (vram <= TINY_BYTES and gtt >= TINY_TIMES * vram) or (
        vram <= SMALL_BYTES and gtt >= SMALL_TIMES * vram
    )


def _address(card: Path) -> str:
    return (card / "device").resolve().name


def _gpu(card: Path, pool: _Pool | None, failure: str, held: Held) -> dict[str, Any]:
    device, address = card / "device", _address(card)
    if pool is None:
        return {"gpu": card.name, "message": f"{card.name} ({address}): {failure}"}
    rows = [[pid, size] for (where, pid), size in sorted(held.items()) if where == address]
    believable = all(0 <= size <= pool.total for _, size in rows)
    name = _text(device / "product_name") or f"AMD {_text(device / 'device') or 'GPU'}"
    return {
        "gpu": card.name,
        "uuid": _text(device / "unique_id") or address,
        "name": f"{name}, VRAM and GTT together" if pool.is_shared else name,
        "total_bytes": pool.total,
        "used_bytes": pool.used,
        "reserved_bytes": 0,
        "processes": rows if believable else None,
    }


def processes(root: Path, shared: Collection[str] = ()) -> Held:
    """Return the owners of the memory, as far as we may look: a stranger's fdinfo needs CAP_SYS_PTRACE.

    `shared` are the addresses of GPUs whose GTT counts too.
    """
    held = _drm_clients(root, shared)
    for key, size in _kfd_processes(root).items():
        held[key] = max(held.get(key, 0), size)
    return held


def _drm_clients(root: Path, shared: Collection[str]) -> Held:
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
            size = sum(_resident(info, kind) for kind in ("vram", "gtt")[: 2 if address in shared else 1])
            held[address, pid] = held.get((address, pid), 0) + size
    return held


def _resident(info: Mapping[str, str], kind: str) -> int:
    # `drm-total-vram` counts shared buffers with each of their users; memory is the older name of resident.
    return _bytes(info.get(f"drm-resident-{kind}") or info.get(f"drm-memory-{kind}") or "0")


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
    """Return a size as the kernel writes it: without a unit it is bytes (drm-usage-stats.rst)."""
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
    """Yield the PCI address of each GPU of KFD's topology; gpu_id 0 is a CPU."""
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
