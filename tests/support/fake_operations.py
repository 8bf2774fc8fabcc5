"""A daemon's worth of answers, held in memory."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from blank_answer import blank

from epad.answers.agents import AgentList
from epad.answers.changes import Measurements
from epad.answers.confinement import (
    Approvals,
    HostQuestion,
    PolicyChanges,
    StandingApproval,
    StandingConsent,
    ToolQuestion,
)
from epad.answers.decisions import Event, Explanation, PhaseAnswer, Recovery
from epad.answers.foreign import ForeignServer, ServerDiff, ServerList
from epad.answers.identity import IdentityBundle, IdentityList
from epad.answers.memory import MemoryList, MemoryProof
from epad.answers.orders import Budgets, Limit, Result
from epad.answers.secrets import ExportedSecret, SecretList
from epad.answers.status import Anomaly, Gpu, Host, ServedUpstream, Status, Subsystem
from epad.answers.tools import ToolList, Trace, UndonePaths, UndonePlan
from epad.answers.vault import DocumentHistory, DocumentPiece, VaultDocument, VaultList, VaultProof
from epad.gate.permissions import Tier
from epad.operations.bodies import BudgetOrder, OrderBody, PhaseOrder
from epad.operations.protocol import (
    ConflictError,
    Peer,
    UnknownBudgetError,
    UnknownDatastoreError,
    UnknownServerError,
    UnknownSubsystemError,
)
from epad.operations.registry import Operation
from statemachine.phase import Phase
from statemachine.table import mermaid

KNOWN = ("chat", "wargame")


def subsystem(name: str, **changes: Any) -> Subsystem:
    """One subsystem of a status, running well unless told otherwise."""
    answer = {
        **blank(Subsystem),
        "name": name,
        "kind": "process",
        "state": "running",
        "essential": False,
        "depends_on": [],
        "pid": 4242,
        "restarts": 0,
        "state_seconds": 3_725.0,
        "hung": False,
        "status": "round 4",
        "progress": {"done": 4, "total": 100},
        "vram_wanted_bytes": None,
        "memory_bytes": 3 << 30,
        "memory_max_bytes": 4 << 30,
        "cpu_seconds": 12.5,
        "cpu_cores": 0.25,
        "processes": 2,
        "tokens": {"input": 12_000, "output": 345, "turns": 17},
        "spent_microusd": 0,
        "budget": {
            "tokens_per_minute": {"limit": 6_000, "used": 1_500},
            "tokens_per_hour": {"limit": 0, "used": 9},
        },
        "hold": {"rung": "open", "reason": ""},
        "log": "/state/logs/chat.log",
        "embedded": False,
        **changes,
    }
    return msgspec.convert(answer, Subsystem)


def gpu(name: str, **changes: Any) -> Gpu:
    """One GPU of a status, half full unless told otherwise."""
    answer = {
        **blank(Gpu),
        "gpu": name,
        "vendor": "nvidia",
        "name": "NVIDIA GeForce RTX 5070",
        "uuid": "GPU-1",
        "age_seconds": 2.0,
        "fresh": True,
        "total_bytes": 12_227 << 20,
        "used_bytes": 6_000 << 20,
        "reserved_bytes": 400 << 20,
        "ratio": 0.5234,
        "subsystems": {"chat": 5_000 << 20},
        "foreign_bytes": 0,
        "unattributed_bytes": 0,
        "bytes_per_second": None,
        "exhaustion_seconds": None,
        "history": [[180, 2_000 << 20], [120, 5_000 << 20], [60, 6_000 << 20], [0, 6_000 << 20]],
        "xids": {},
        **changes,
    }
    return msgspec.convert(answer, Gpu)


def question(number: int, **changes: Any) -> HostQuestion:
    """A question of chat about a host that waits for a person, unless told otherwise."""
    answer = {
        **blank(HostQuestion),
        "number": number,
        "subsystem": "chat",
        "host": "files.example",
        "port": 443,
        "state": "open",
        "program": "python3 agent.py",
        "tries": 1,
        "asked_seconds_ago": 5.0,
        "left_seconds": 25.0,
        "widens": ["chat: + connect files.example:443; at once"],
        "asks": "files.example:443",
        "labels": [],
        **changes,
    }
    return msgspec.convert(answer, HostQuestion)


def asked(
    *questions: HostQuestion, tools: Sequence[ToolQuestion] = (), consents: Sequence[StandingConsent] = ()
) -> Approvals:
    """Questions about hosts, and those about tools; no approval of a host."""
    return {
        "questions": questions,
        "standing": [],
        "always": {},
        "tool_questions": tools,
        "tool_standing": consents,
    }


def tool_question(number: int, **changes: Any) -> ToolQuestion:
    """A question of chat about a file that is to be deleted, unless told otherwise."""
    answer = {
        **blank(ToolQuestion),
        "number": number,
        "subsystem": "chat",
        "tool": "file_delete",
        "asks": "file_delete on /work/a.txt",
        "covers": "in /work",
        "arguments": '{"path": "a.txt"}',
        "both_taints": False,
        "labels": [],
        "state": "open",
        "tries": 1,
        "asked_seconds_ago": 5.0,
        "left_seconds": 295.0,
        "mark": "file_delete:0123456789abcdef",
        **changes,
    }
    return msgspec.convert(answer, ToolQuestion)


def consent(number: int, **changes: Any) -> StandingConsent:
    """A consent to chat's deleting, unless told otherwise."""
    answer = {
        **blank(StandingConsent),
        "number": number,
        "subsystem": "chat",
        "tool": "file_delete",
        "covers": "in /work",
        "left_seconds": 600.0,
        "once": False,
        "reason": "needed",
        **changes,
    }
    return msgspec.convert(answer, StandingConsent)


def approval(host: str, **changes: Any) -> StandingApproval:
    """An approval of chat's for ever, unless told otherwise."""
    answer = {
        **blank(StandingApproval),
        "subsystem": "chat",
        "host": host,
        "port": 443,
        "number": None,
        "left_seconds": None,
        "once": False,
        "reason": "needed",
        **changes,
    }
    return msgspec.convert(answer, StandingApproval)


def status(**changes: Any) -> Status:
    """A whole status: one subsystem runs, one is held."""
    held = subsystem(
        "wargame",
        state="quarantined",
        hold={"rung": "freeze", "reason": "three refusals"},
        embedded=True,
    )
    answer = {
        **blank(Status),
        "version": "0.1.0",
        "pid": 77,
        "state_directory": "/state",
        "config_file": "",
        "phase": "QUARANTINE",
        "phase_number": 1,
        "phase_since": "2026-01-01T00:00:00+00:00",
        "phase_seconds": 61.0,
        "sentence": "one subsystem misbehaves",
        "uptime_seconds": 90_000.0,
        "anomalies": [
            {
                **blank(Anomaly),
                "id": "token_burn/wargame",
                "probe": "token_burn",
                "subsystem": "wargame",
                "severity": "anomaly",
                "reason": "three refusals in a row",
                "age_seconds": 60.0,
            }
        ],
        "incidents": [],
        "subsystems": [subsystem("chat"), held],
        "probes": [
            {"name": "token_burn", "success": True, "age_seconds": 1.0, "note": ""},
            {"name": "vram", "success": False, "age_seconds": None, "note": "no NVIDIA driver"},
        ],
        "upstreams": [
            {
                **blank(ServedUpstream),
                "name": "local",
                "url": "http://127.0.0.1:11434",
                "healthy": False,
                "reason": "it broke off",
                "state": "gone",
                "breaker": "open",
                "seconds": 5.0,
                "retry_seconds": 1.0,
                "server": "ollama",
                "served_by": "chat",
            }
        ],
        "budgets": {"all": {"microusd_per_day": {"limit": 5_000_000, "used": 1}}},
        "gpus": [],
        "host": {
            **blank(Host),
            "fresh": True,
            "pressure": {"memory": {"some": 0.01, "full": 0.0}},
            "memory_bytes": 64 << 30,
            "available_bytes": 32 << 30,
            "disk_free_bytes": 9 << 30,
            "disk_total_bytes": 90 << 30,
            "free_inodes": 1_000_000,
            "lag_seconds": 0.002,
        },
        "engine": "plain: told by walking",
        "gateway": {"url": "http://127.0.0.1:8700"},
        "checkpoint": None,
        "metrics": {"url": ""},
        "web": {"url": ""},
        "ledger": {"records": 34, "verdict": "ok", "detail": "", "unchecked": 0},
        "notices": ["no NVIDIA driver"],
        **changes,
    }
    return msgspec.convert(answer, Status)


def added_document(path: str) -> VaultDocument:
    """A document as a person has added it."""
    return {
        "path": path,
        "version": 1,
        "kind": "add",
        "sha256": "ab" * 32,
        "size": 14,
        "reason": "why",
        "at": 1.0,
        "author": "operator",
        "session": "",
    }


class FakeOperations:
    """Implements `Operations`; what was asked of it stands in `orders` and `audits`."""

    def __init__(self) -> None:
        self.answer = status()
        self.stored: list[Event] = []
        self.orders: list[tuple[str, ...]] = []
        self.audits: list[tuple[Operation, Tier, bool, Peer]] = []
        self.listeners: set[asyncio.Queue[Event]] = set()
        self.queue_size = 0
        self.failure: Exception | None = None
        self.failed = False
        self.bodies: list[OrderBody] = []
        self.limits: list[dict[str, float | None]] = []
        self.unforcible: dict[str, str] = {"RECOVERY": "nothing is broken"}
        self.printed = ["one", "two", "three"]
        self.printing: list[list[str]] = []
        self.logs_asked: list[tuple[str, int, float | None]] = []
        self.subscribed = asyncio.Event()
        self.host_approvals = asked()
        self.measurements: Measurements = {"measurements": []}
        self.secret_list: SecretList = {"secrets": [], "sealing": {}}
        self.agent_list: AgentList = {"agents": []}
        self.tool_list: ToolList = {"enabled": False, "tiers": {}, "tools": []}
        self.undone: list[UndonePaths] = []
        self.documents: list[VaultDocument] = []
        self.document = b""
        self.asked_documents: list[tuple[str | None, str | None, str | None]] = []
        self.vault_faults: list[str] = []
        self.servers: list[ForeignServer] = []
        self.server_diff: ServerDiff = blank(ServerDiff)
        self.traces: dict[str, dict[int, Trace]] = {}
        self.policy_changes: PolicyChanges = {"needs_reason": False, "changes": []}

    def happen(self, kind: str, subsystem_name: str = "", **fields: Any) -> None:
        """Store an event, and tell the listeners that keep up."""
        event: Event = {
            "id": len(self.stored) + 1,
            "at": "2026-01-01T00:00:00.000+00:00",
            "kind": kind,
            "subsystem": subsystem_name,
            "fields": fields,
        }
        self.stored.append(event)
        for queue in tuple(self.listeners):
            if queue.full():
                self.listeners.discard(queue)
            else:
                queue.put_nowait(event)

    def tools(self) -> ToolList:
        return self.tool_list

    async def trace(self, subject: str | None, after: int) -> Trace:
        if subject is None or subject not in self.traces:
            if subject is not None:
                self._check(subject)
            return {"session": None, "sessions": [], "spawned": [], "turns": [], "after": 0}
        return self.traces[subject][after]

    def changes(self) -> Measurements:
        return self.measurements

    def agents(self) -> AgentList:
        return self.agent_list

    def tools_servers(self) -> ServerList:
        return {"servers": self.servers}

    def tools_diff(self, name: str) -> ServerDiff:
        known = [one["name"] for one in self.servers]
        if known and name not in known:
            raise UnknownServerError(name, known)
        return self.server_diff

    async def memory(self, session: str | None) -> MemoryList:
        return {"entities": [], "hidden_sessions": [session] if session else [], "losses": []}

    async def memory_verify(self) -> MemoryProof:
        return {"faults": [], "rows": 0, "head": ""}

    async def secrets(self) -> SecretList:
        return self.secret_list

    async def identity(self) -> IdentityList:
        return {"trust_domain": "epad.local", "socket": "", "state": "off", "svids": []}

    async def identity_bundle(self) -> IdentityBundle:
        return {"trust_domain": "epad.local", "document": '{\n "keys": []\n}'}

    async def vault(self) -> VaultList:
        return {"documents": self.documents, "faults": []}

    async def vault_show(
        self, document: str | None, version: str | None, offset: str | None
    ) -> DocumentPiece:
        self.asked_documents.append((document, version, offset))
        change = self.documents[0] if self.documents else added_document(document or "")
        piece = self.document[int(offset or 0) :][:10]
        behind = int(offset or 0) + len(piece)
        data = b64encode(piece).decode()
        return {**change, "data": data, "next": 0 if behind >= len(self.document) else behind}

    async def vault_history(self, document: str | None) -> DocumentHistory:
        return {"path": document or "", "changes": self.documents}

    async def vault_verify(self) -> VaultProof:
        return {"faults": self.vault_faults, "rows": 3, "versions": 2}

    async def undo_plan(self, name: str) -> UndonePlan:
        self._check(name)
        return {"name": name, "turns": self.undone}

    def approvals(self) -> Approvals:
        return self.host_approvals

    async def confine_diff(self) -> PolicyChanges:
        return self.policy_changes

    def status(self) -> Status:
        if self.failure:
            raise self.failure
        return self.answer

    async def phase(self) -> PhaseAnswer:
        return {
            "phase": "QUARANTINE",
            "since": "2026-01-01T00:00:00+00:00",
            "sentence": "one subsystem misbehaves",
            "history": [
                {
                    "id": 1,
                    "at": "2026-01-01T00:00:00+00:00",
                    "source": "NORMAL",
                    "destination": "QUARANTINE",
                    "trigger": "isolate",
                    "guard": "troubled",
                    "sentence": "one subsystem misbehaves",
                    "cause": {"anomalies": [1]},
                }
            ],
            "force": {phase: self.unforcible.get(phase, "") for phase in Phase},
            "diagram": mermaid(),
        }

    async def events(self, since: int, limit: int) -> list[Event]:
        start = since if since >= 0 else max(len(self.stored) + since, 0)
        return self.stored[start : start + limit]

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[asyncio.Queue[Event]]:
        queue: asyncio.Queue[Event] = asyncio.Queue(self.queue_size)
        self.listeners.add(queue)
        self.subscribed.set()
        try:
            yield queue
        finally:
            self.listeners.discard(queue)

    async def explain(self, subject: str | None) -> Explanation:
        if subject is not None:
            self._check(subject)
        at = "2026-01-01T00:00:00.000+00:00"
        return {
            "subject": subject or "the last incident",
            "chain": [
                {
                    "kind": "finding",
                    "id": "anomaly-1",
                    "at": at,
                    "text": "too many",
                    "fields": {"value": 5, "evidence": {"by": "a b"}, "unit": ""},
                },
                {
                    "kind": "rule",
                    "id": "transition-1",
                    "at": at,
                    "text": "NORMAL -> QUARANTINE",
                    "fields": {},
                },
            ],
        }

    async def recovery(self) -> Recovery:
        return {
            "phase": "RECOVERY",
            "attempts": 1,
            "attempts_allowed": 3,
            "running": True,
            "recoveries_this_hour": 1,
            "plan": [
                {
                    "target": "ledger",
                    "action": "rebuild",
                    "why": "record 7",
                    "sources": ["rows that the chain vouches for", "sealed segments"],
                    "after": [],
                    "verified_by": "ledger_integrity",
                }
            ],
            "tried": [],
            "parked": {},
            "lost_turns": [
                {
                    "turn": "0" * 32,
                    "subsystem": "chat",
                    "model": "m",
                    "at": "2026-01-01T00:00:00+00:00",
                    "reserved_tokens": 100,
                    "idempotency_key": None,
                    "attempts": 2,
                    "state": "for a person",
                    "why": "asked again 2 time(s)",
                }
            ],
            "trouble": "",
        }

    async def order(self, operation: Operation, name: str, body: OrderBody, by: str) -> Result:
        reason, target = body.reason.strip(), name or "host"
        match operation, body:
            case Operation.SET_BUDGET, BudgetOrder(limits=limits):
                if name not in KNOWN:
                    raise UnknownBudgetError(name, KNOWN)
                self.limits.append(limits)
            case Operation.FORCE_PHASE, PhaseOrder(phase=phase):
                target = phase
                if why := self.unforcible.get(phase):
                    raise ConflictError(f"{phase} cannot be forced: {why}")
            case Operation.RELAUNCH, _:
                raise ConflictError("only LIFEBOAT is left by a relaunch; this is QUARANTINE")
            case ((Operation.APPROVE | Operation.DENY | Operation.REVOKE_HOST), _):
                self.bodies.append(body)
            case ((Operation.LEARN | Operation.RELOAD), _):
                self.bodies.append(body)
            case Operation.ACCEPT_DATASTORE, _:
                if name != "memory":
                    raise UnknownDatastoreError(name, ["memory"])
            case _ if operation.about:
                self._check(name)
        self.orders.append((operation, target, reason, by))
        results = [f"{operation} done"]
        if operation is Operation.EXPORT_SECRET:
            return ExportedSecret(
                subsystem=target, phase="QUARANTINE", failed=self.failed, results=results, value="dg=="
            )
        return {"subsystem": target, "phase": "QUARANTINE", "failed": self.failed, "results": results}

    async def log_lines(self, name: str, count: int, since: float | None) -> list[str]:
        self._check(name)
        self.logs_asked.append((name, count, since))
        return self.printed[-count:] if count else []

    def follow_log(self, name: str) -> AsyncGenerator[list[str], None]:
        self._check(name)
        return self._follow_log()

    async def _follow_log(self) -> AsyncGenerator[list[str], None]:
        for batch in self.printing:
            yield batch

    def budgets(self) -> Budgets:
        tokens: Limit = {
            "scope": "chat",
            "name": "tokens_per_minute",
            "limit": 6_000,
            "used": 1_500,
            "left": 4_500,
            "configured": 6_000,
            "origin": "configured",
        }
        money: Limit = {
            "scope": "all",
            "name": "usd_per_day",
            "limit": 5.0,
            "used": 0.000_1,
            "left": 4.9999,
            "configured": 3.0,
            "origin": "uid 7, 2026-01-01T00:00:00+00:00: a long night",
        }
        return {"budgets": [tokens, money]}

    async def audit(
        self, operation: Operation, tier: Tier, *, allowed: bool, peer: Peer, by: str = ""
    ) -> None:
        self.audits.append((operation, tier, allowed, peer))

    def _check(self, name: str) -> None:
        if name not in KNOWN:
            raise UnknownSubsystemError(name, KNOWN)
