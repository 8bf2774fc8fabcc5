"""Define the recorder that receives each cycle of the control loop; `epad/simulate/recorder.py` implements it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from epad.control_loop.decider import Decider
from epad.control_loop.seen import Seen
from epad.control_loop.stimulus import Stimulus
from epad.control_loop.world_protocol import World


@dataclass(slots=True)
class Watching:
    """A cycle of the control loop while it runs."""

    at: float
    stimulus: Stimulus
    see: Callable[[], Seen] = Seen
    seen: Seen | None = None
    severity_before: int = 0
    decided: bool = False
    moves: list[float] = field(default_factory=list)

    def look(self) -> None:
        """Keep the inputs, since a decision may follow."""
        self.seen = self.see()


class CycleRecorder(Protocol):
    """Receives each cycle of the control loop."""

    def begin(self, stimulus: Stimulus, decider: Decider, world: World) -> Watching: ...

    def end(self, watching: Watching) -> None: ...


class NoRecorder:
    """Keeps nothing."""

    def begin(self, stimulus: Stimulus, *_: object) -> Watching:
        return Watching(0.0, stimulus)

    def end(self, watching: Watching) -> None:
        """Forget it."""
