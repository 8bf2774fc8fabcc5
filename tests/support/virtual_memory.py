"""The memory of virtual processes, and of the machine that they live on: a footprint reader without /proc.

Whatever former version of epad imports this need not have a memory probe: what that is told in is imported last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from virtual_processes import VirtualEngine

if TYPE_CHECKING:
    from epad.supervisor.footprints import Workload
    from probes.memory import MemoryReading

MIB, GIB = 1 << 20, 1 << 30
Course = Callable[[float], float]
"""How many bytes a process takes after so many seconds of running; one that is frozen ages no more."""

_OTHERS_BYTES = 64 * MIB


def steady(_: float) -> float:
    """Little, and no more than that."""
    return _OTHERS_BYTES


@dataclass
class VirtualMemory:
    """Stands in for `epad.supervisor.footprints.FootprintReader`.

    `courses` are by subsystem; `strangers` is what other programs of the machine take, by the seconds since it began.
    `read_at` and `taken` are what each look has seen of the subsystems with a course.
    """

    courses: Mapping[str, Course]
    strangers: Course = lambda _: 8.0 * GIB
    total_bytes: int = 64 * GIB
    taken: list[tuple[float, int]] = field(default_factory=list)
    engine: VirtualEngine | None = None
    _began: float | None = None

    def read(self, workloads: Sequence[Workload]) -> MemoryReading:
        """Look at all of them once."""
        from probes.memory import Footprint, HostMemory, MemoryReading  # noqa: PLC0415  see above

        assert self.engine is not None
        processes = self.engine.processes
        names = [
            one.name for one in workloads if one.name in processes and not processes[one.name].exited.done()
        ]
        sizes = {name: int(self.courses.get(name, steady)(processes[name].lived)) for name in names}
        now = self.engine.now()
        began = self._began = now if self._began is None else self._began
        self.taken.append((now, sum(sizes.get(name, 0) for name in self.courses)))
        available = self.total_bytes - self.strangers(now - began) - sum(sizes.values())
        footprints = {name: Footprint(size, 0.0, 1) for name, size in sizes.items()}
        return MemoryReading(footprints, HostMemory(self.total_bytes, max(0, int(available))))
