"""Map the steps of a response to the daemon's parts that do them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from epad.checkpoint.drill import RestoreDrill
from epad.control_loop.responder import StepWork
from epad.control_loop.step import StepName
from epad.datastore.datastores import Datastores
from epad.gateway.access import Access
from epad.gateway.upstream import Upstreams
from epad.ledger.head import load_or_make_key
from epad.ledger.integrity import Integrity
from epad.metrics.registry import Metrics
from epad.response.datastore import DatastoreRestore
from epad.response.last_resort import Lent, Rescue
from epad.response.preservation import NewestCheckpoint, Preservation, Safeguards
from epad.response.quarantine import CellStarts, Containment, HoldOf
from epad.response.recovery import Recovery
from epad.response.release_vram import Measure
from epad.response.release_vram_step import VramReleaseStep, make_vram_release
from epad.response.replay import Asking, Replay
from epad.storage.event_log import EventLog
from epad.supervisor.supervisor import Supervisor
from probes.probe import Push
from probes.subsystems import SubsystemState

DRILL_SECONDS = 3_600.0


@dataclass(frozen=True, slots=True)
class Hands:
    """Gives responses their parts of the daemon."""

    access: Access
    cells: CellStarts
    supervisor: Supervisor
    integrity: Integrity
    upstreams: Upstreams
    datastores: Datastores
    measure: Measure
    hold_of: HoldOf
    gateway_url: Callable[[], str]
    push: Push
    events: EventLog
    metrics: Metrics


class Responses:
    """Containment, preservation, recovery and rescue, ready to work."""

    def __init__(self, lent: Lent, hands: Hands) -> None:
        self._lent, self._hands = lent, hands
        places = lent.stores.ledger.places
        self._signer = load_or_make_key(places.key) if places else None
        self.rescue = Rescue(lent, Replay(lent.config.recovery, self._asking()), self._signer)
        self._preservation = self._make_preservation()
        self._preservation.observe()
        self._drill = self._make_drill()

    def work(self) -> dict[StepName, StepWork]:
        """Return the doer of each step."""
        hands = self._hands
        containment = Containment(
            hands.access, hands.supervisor, hands.hold_of, self._vram_release(), hands.cells
        )
        checkpoints = self._lent.directories.checkpoints
        recovery = Recovery(
            hands.access, hands.supervisor, hands.hold_of, hands.integrity.repair, checkpoints, hands.cells
        )
        return {
            StepName.HOLD: containment.hold,
            StepName.CHECKPOINT: self._preservation.checkpoint,
            StepName.RESTART: recovery.restart,
            StepName.REPAIR_LEDGER: recovery.repair_ledger,
            StepName.RESTORE_DATASTORE: DatastoreRestore(
                hands.supervisor, hands.hold_of, hands.datastores, checkpoints
            ).restore,
            **self.rescue.work(),
        }

    def last_verified(self) -> str:
        """Return the id of the newest verified checkpoint; empty if there is none."""
        bundle = self._preservation.last_verified()
        return bundle.id if bundle else ""

    def newest_checkpoint(self) -> NewestCheckpoint | None:
        """Return the newest checkpoint, good or not; None if there is none."""
        return self._preservation.newest

    async def drill(self) -> None:
        """Restore the newest verified checkpoint into a scratch directory, and say how that went."""
        await self._drill.run()

    def _make_preservation(self) -> Preservation:
        lent, hands = self._lent, self._hands
        return Preservation(
            lent.directories.checkpoints,
            lent.config.checkpoint,
            lent.sources,
            lent.facts,
            lent.clock,
            hands.metrics,
            Safeguards(
                state=lent.directories.state,
                signer=self._signer,
                doubts=hands.datastores.doubts,
                ask_to_save=hands.supervisor.ask_to_save,
            ),
        )

    def _make_drill(self) -> RestoreDrill:
        return RestoreDrill(
            self._preservation.last_verified,
            self._lent.directories.state,
            DRILL_SECONDS,
            self._hands.push,
            self._lent.clock,
            self._hands.events,
            self._hands.metrics,
        )

    def _vram_release(self) -> VramReleaseStep:
        ladder = make_vram_release(
            self._lent.configured,
            upstreams=self._hands.upstreams.all,
            holder=self._hands.supervisor,
            measure=self._hands.measure,
            clock=self._lent.clock,
        )
        return VramReleaseStep(ladder, self._hands.events)

    def _asking(self) -> Asking:
        stores = self._lent.stores
        return Asking(
            ledger=stores.ledger,
            database=stores.database,
            keyring=stores.identities,
            costs=stores.costs,
            clock=self._lent.clock,
            url=self._hands.gateway_url,
            shut=self._why_shut,
            ready=self._has_started,
        )

    def _why_shut(self, subsystem: str) -> str:
        shut = self._hands.access.shut(subsystem)
        return shut.message if shut else ""

    def _has_started(self) -> bool:
        return all(s.state is not SubsystemState.STARTING for s in self._hands.supervisor.snapshots())
