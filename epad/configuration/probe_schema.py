"""The tables of the probes, one row a probe: the name of its table, and its settings.

A probe that is not in here has no table; its name is not known to hysteresis, containment and enforcement either.
"""

from __future__ import annotations

from msgspec import Struct

from probes.alerts import AlertsSettings
from probes.cascade import CascadeSettings
from probes.conversation import ConversationSettings
from probes.datastore import DatastoreSettings
from probes.egress import EgressSettings
from probes.host import HostSettings
from probes.intent import IntentSettings
from probes.ledger_integrity import LedgerIntegritySettings
from probes.liveness import LivenessSettings
from probes.memory import MemorySettings
from probes.progress import ProgressSettings
from probes.settings import ProbeSettings
from probes.token_burn import TokenBurnSettings
from probes.tools import ToolsSettings
from probes.vault import VaultSettings
from probes.vram import VramSettings


class ProbesConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Holds one table a probe."""

    token_burn: TokenBurnSettings
    conversation: ConversationSettings
    progress: ProgressSettings
    liveness: LivenessSettings
    ledger_integrity: LedgerIntegritySettings
    vram: VramSettings
    host: HostSettings
    cascade: CascadeSettings
    alerts: AlertsSettings
    datastore: DatastoreSettings
    memory: MemorySettings
    egress: EgressSettings
    tools: ToolsSettings
    vault: VaultSettings
    intent: IntentSettings

    def by_name(self) -> dict[str, ProbeSettings]:
        """Return every probe's settings, by the probe's name."""
        return {name: getattr(self, name) for name in self.__struct_fields__}
