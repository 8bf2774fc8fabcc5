"""Apply a changed configuration to the changed parts, and to nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import structlog
from msgspec import structs

from epad import EpadError
from epad.configuration.load import ConfigError
from epad.configuration.schema import Config, SubsystemConfig
from epad.configuration.toml_lines import key_text
from epad.confinement.changes import PolicyChange, WideningRefusedError, policy_changes
from epad.confinement.kept_policies import KeptPolicies
from epad.confinement.policy import Policy
from epad.runtime.systemd_notify import notify, reloading
from epad.storage.event_log import EventKind, EventLog

# Of the whole: what every decision and every reservation looks up anew.
LIVE_TABLES = frozenset({
    "policy", "hysteresis", "containment", "budgets", "groups", "upstreams", "prices", "metrics", "web", "confine",
    "secrets", "persons", "agents",
})  # fmt: skip
# Of a subsystem: what its process is given when it starts.
STARTING = frozenset({"command", "environment", "working_directory", "notifies"})
# Of a subsystem: what the gateway is told when the daemon starts.
FIXED = frozenset({"kind", "gateway", "user", "group"})


class ChangeRefusedError(EpadError):
    """A change cannot be put in force, and nothing of it has been; the message names the place."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Groups the differences by their consequence; `config` is the one in force once all but `postponed` are done."""

    config: Config
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    restarted: tuple[str, ...] = ()
    adjusted: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    postponed: tuple[str, ...] = ()
    policies: tuple[PolicyChange, ...] = ()

    def and_what_is_left(self, other: Changes) -> Changes:
        """Join two changes: one was interrupted, and its progress is not known."""
        restarted = _union(self.restarted, other.restarted)
        return replace(
            self,
            added=_union(self.added, other.added),
            removed=_union(self.removed, other.removed),
            restarted=restarted,
            adjusted=tuple(n for n in _union(self.adjusted, other.adjusted) if n not in restarted),
            tables=_union(self.tables, other.tables),
        )

    @property
    def anything(self) -> bool:
        """Tell if there is anything to apply."""
        return bool(self.added or self.removed or self.restarted or self.adjusted or self.tables)

    def sentences(self) -> list[str]:
        """Describe the applied and the postponed changes to a person."""
        parts = {
            "added": self.added,
            "removed": self.removed,
            "restarted": self.restarted,
            "adjusted while running": self.adjusted,
            "in force": self.tables,
            "waiting for a restart of epad": self.postponed,
        }
        said = [f"{what}: {', '.join(names)}" for what, names in parts.items() if names]
        said += [line for change in self.policies for line in change.lines()]
        return said or ["nothing has changed"]


def compare(before: Config, after: Config) -> Changes:
    """Work out the steps from one configuration to the other. Pure."""
    postponed: list[str] = []
    wanted: dict[str, SubsystemConfig] = {}
    for name, spec in after.subsystems.items():
        fitting = _fitting(name, before, spec, postponed)
        if fitting is not None:
            wanted[name] = fitting
    _close(wanted, before.subsystems, postponed)
    tables = [
        t for t in Config.__struct_fields__ if getattr(before, t) != getattr(after, t) and t != "subsystems"
    ]
    live = {table: getattr(after, table) for table in tables if table in LIVE_TABLES}
    if "groups" in live:
        # Who is to leave a group at the next start is in it until then.
        kept = {spec.group for spec in wanted.values() if spec.group} - after.groups.keys()
        postponed.extend(key_text(("groups", name)) for name in sorted(kept))
        live["groups"] = {**after.groups, **{name: before.groups[name] for name in sorted(kept)}}
    if "tools" in tables:
        # The door is there from the start of the daemon, or is not; all else is looked up with each call.
        if after.tools.enabled != before.tools.enabled:
            postponed.append(key_text(("tools", "enabled")))
        tools = structs.replace(after.tools, enabled=before.tools.enabled)
        live |= {"tools": tools} if tools != before.tools else {}
    changed = [n for n, spec in wanted.items() if n in before.subsystems and spec != before.subsystems[n]]
    restarted = [n for n in changed if _differing(before.subsystems[n], wanted[n]) & STARTING]
    return Changes(
        config=structs.replace(before, subsystems=wanted, **live),
        added=tuple(name for name in wanted if name not in before.subsystems),
        removed=tuple(name for name in before.subsystems if name not in wanted),
        restarted=tuple(restarted),
        adjusted=tuple(name for name in changed if name not in restarted),
        tables=tuple(sorted(live)),
        postponed=(
            *(f"[{table}]" for table in tables if table not in {*LIVE_TABLES, "tools"}),
            *dict.fromkeys(postponed),
        ),
    )


def _fitting(
    name: str, before: Config, spec: SubsystemConfig, postponed: list[str]
) -> SubsystemConfig | None:
    """Return the part of a subsystem's new specification that can begin now; None if it cannot be begun."""
    former = before.subsystems.get(name)
    if former is None:
        if spec.group not in {"", *before.groups}:
            postponed.append(f"subsystems.{name}")
            return None
        return spec
    fixed = _differing(former, spec) & FIXED
    postponed.extend(key_text(("subsystems", name, key)) for key in sorted(fixed))
    if "kind" in fixed:
        return former
    return structs.replace(spec, **{key: getattr(former, key) for key in fixed})


def _close(
    wanted: dict[str, SubsystemConfig], before: dict[str, SubsystemConfig], postponed: list[str]
) -> None:
    """Ensure that no dependency is missing: a former one stays, a new subsystem waits too."""
    while gaps := [(n, d) for n, spec in wanted.items() for d in spec.depends_on if d not in wanted]:
        name, missing = gaps[0]
        if missing in before:
            wanted[missing] = before[missing]
        elif name in before:
            wanted[name] = before[name]
        else:
            del wanted[name]
        postponed.append(f"subsystems.{missing if missing in before else name}")


def _differing(one: SubsystemConfig, other: SubsystemConfig) -> frozenset[str]:
    return frozenset(key for key in one.__struct_fields__ if getattr(one, key) != getattr(other, key))


def _union(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*one, *other)))


class Reloads(Protocol):
    """Reads the configuration again; `Reloader` does."""

    async def reload(self, why: str = "") -> list[str]:
        """Apply it, and return a sentence for each thing done. Raises ConfigError, ChangeRefusedError."""
        ...

    async def policy_changes(self) -> tuple[PolicyChange, ...]:
        """Return the changes of policies that it would make. Raises ConfigError."""
        ...


class Reloader:
    """Reads, compares, applies; one at a time, and systemd is told of it."""

    def __init__(
        self,
        config: Config,
        read: Callable[[], Config],
        apply: Callable[[Changes], Awaitable[None]],
        events: EventLog,
        policies: Callable[[Config], Mapping[str, Policy]],
        kept: KeptPolicies,
    ) -> None:
        self._config = config
        self._policies = policies
        self._policies_in_force: Mapping[str, Policy] = {}
        self._kept = kept
        self._read = read
        self._apply = apply
        self._events = events
        self._log = structlog.get_logger("epad.reload")
        self._lock = asyncio.Lock()
        self._broken_off: list[Config] = []
        self._take_policies(config)

    def tell_of_start(self, former: Mapping[str, Policy]) -> None:
        """Record the changes of policies since the previous run: nobody gave a reason for them."""
        changes = policy_changes(former, self._policies_in_force)
        self._tell_of_policies(changes, "changed while no daemon ran")

    @property
    def config(self) -> Config:
        """Return the configuration in force."""
        return self._config

    async def adopt(self, change: Callable[[Config], Config], why: str = "") -> list[str]:
        """Apply a change that is in no file; `why` is recorded with what it changes in policies.

        Raises SupervisorError, DatabaseError, LedgerError, and the change's own errors.
        """
        async with self._lock:
            changes = self._changes_to(change(self._config))
            await self._bring(changes)
            self._tell_of_policies(changes.policies, why)
            return changes.sentences()

    async def policy_changes(self) -> tuple[PolicyChange, ...]:
        """Return the changes of policies that a reload now would make. Raises ConfigError."""
        return self._changes_to(await asyncio.to_thread(self._read)).policies

    async def reload(self, why: str = "") -> list[str]:
        """Apply the changes; return a sentence for each kind of change.

        `why` is a person's reason, without which no policy may widen. Raises ConfigError, WideningRefusedError or
        ChangeRefusedError, and then nothing has changed; SupervisorError, DatabaseError, and then the next does what is
        left of it, or undoes it where it asks for what was before.
        """
        async with self._lock:
            notify(*reloading())
            try:
                return await self._reload(why)
            finally:
                notify("READY=1")

    async def _reload(self, why: str) -> list[str]:
        try:
            after = await asyncio.to_thread(self._read)
        except ConfigError as error:
            problems = [str(problem) for problem in error.problems]
            self._log.error(EventKind.CONFIG_REFUSED, problems=problems)
            self._events.emit(EventKind.CONFIG_REFUSED, problems=problems)
            raise
        changes = self._changes_to(after)
        widened = [line for change in changes.policies if change.widens for line in change.lines()]
        if widened and not why:
            unexplained = WideningRefusedError(tuple(widened))
            self._refused(unexplained)
            raise unexplained
        await self._bring(changes)
        self._tell_of_policies(changes.policies, why)
        sentences = changes.sentences()
        self._log.info(EventKind.CONFIG_RELOADED, changes=sentences)
        self._events.emit(EventKind.CONFIG_RELOADED, changes=sentences)
        return sentences

    def _changes_to(self, after: Config) -> Changes:
        """Return the changes to a configuration from the one in force, and from all that was begun since."""
        changes = compare(self._config, after)
        for begun in self._broken_off:
            changes = changes.and_what_is_left(compare(begun, changes.config))
        policies = policy_changes(self._policies_in_force, self._policies(changes.config))
        return replace(changes, policies=policies)

    def _refused(self, error: EpadError) -> None:
        self._log.error(EventKind.CONFIG_REFUSED, problems=[str(error)])
        self._events.emit(EventKind.CONFIG_REFUSED, problems=[str(error)])

    def _take_policies(self, config: Config) -> None:
        """Take the policies of a configuration as those in force, and keep them for the next run."""
        self._policies_in_force = self._policies(config)
        try:
            self._kept.write(self._policies_in_force)
        except OSError as error:
            self._log.error("policies.not_kept", error=str(error))

    def _tell_of_policies(self, changes: tuple[PolicyChange, ...], why: str) -> None:
        """Record each change of a policy, with the reason that was given for it."""
        for change in changes:
            lines = list(change.lines())
            self._log.warning(EventKind.POLICY_CHANGED, subsystem=change.subsystem, changes=lines, reason=why)
            self._events.emit(
                EventKind.POLICY_CHANGED,
                change.subsystem,
                changes=lines,
                widens=bool(change.widens),
                reason=why,
            )

    async def _bring(self, changes: Changes) -> None:
        """Put changes in force, if there are any."""
        if not changes.anything:
            self._take_policies(self._config)  # a link may lead elsewhere now
            return
        try:
            await self._apply(changes)
        except ChangeRefusedError as error:
            self._refused(error)
            raise
        except Exception as error:
            # What was in force is compared with again, so the next reload does what this one has not; or it undoes
            # what this one has done, where it asks for what was before.
            self._broken_off.append(changes.config)
            self._log.error("config.reload_broken_off", error=str(error))
            raise
        self._config = changes.config
        self._take_policies(changes.config)
        self._broken_off.clear()


def heed(applied: asyncio.Future[list[str]]) -> None:
    """Take note of a failure that nobody waits for any more: it is in the log."""
    if not applied.cancelled():
        applied.exception()
