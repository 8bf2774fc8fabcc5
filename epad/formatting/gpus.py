"""GPUs as text for people."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from epad.answers.status import Gpu

# What is further away than a day is no forecast.
_SHOWN_FORECAST_SECONDS = 86_400


def gpu_lines(gpus: Sequence[Gpu]) -> list[str]:
    """Format one line a GPU; a reading that is old begins with that word."""
    return [_gpu_line(gpu) for gpu in gpus]


def _gpu_line(gpu: Gpu) -> str:
    used = gpu["used_bytes"] + gpu["reserved_bytes"]
    parts = [f"{mebibytes(used)} of {mebibytes(gpu['total_bytes'])} ({gpu['ratio']:.0%})"]
    if not gpu["fresh"]:
        parts[0] = f"not readable; {gpu['age_seconds']:.0f}s ago {parts[0]}"
    parts += [f"{name} {mebibytes(held)}" for name, held in gpu["subsystems"].items()]
    if gpu["foreign_bytes"]:
        parts.append(f"others {mebibytes(gpu['foreign_bytes'])}")
    if gpu["unattributed_bytes"]:
        parts.append(f"nobody's {mebibytes(gpu['unattributed_bytes'])}")
    if gpu["exhaustion_seconds"] is not None and gpu["exhaustion_seconds"] < _SHOWN_FORECAST_SECONDS:
        parts.append(f"full in {gpu['exhaustion_seconds']:.0f}s at this rate")
    parts += [f"Xid {number} at {at}" for number, at in gpu["xids"].items()]
    return f"GPU {gpu['gpu']} {gpu['name']}: {', '.join(parts)}"


def mebibytes(size: int) -> str:
    """VRAM as its tools show it."""
    return f"{size >> 20} MiB"
