"""Find the processes that a dead daemon has left: by its journal, by mark, stamp and control group, and by descent."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from epad.runtime.environment_marks import STATE_MARK, SUBSYSTEM_MARK
from epad.storage.database import DatabaseError
from epad.supervisor.cgroup import Cgroup, cgroup_of
from epad.supervisor.engine_choice import SERVICE_TAG, is_own_group, state_tag
from epad.supervisor.errors import ProcessGoneError
from epad.supervisor.identity import Kin, ProcessIdentity, ProcessStat, ProcessTable
from epad.supervisor.process_tree import inside, signal_all
from epad.supervisor.records import read_identities
from epad.supervisor.stamp import bears

# For the few pages that say which processes there were. Beyond it the disk does not answer.
JOURNAL_SECONDS = 5.0


class LeftBehind:
    """Finds every process started for a state directory, or forked by one; looks anew at each call.

    `recorded` are those that the daemon wrote down: they are known whatever they make of their environment.
    """

    def __init__(self, table: ProcessTable, state: Path, recorded: Collection[ProcessIdentity]) -> None:
        self._table = table
        self._state = os.path.realpath(state)
        service = {SERVICE_TAG} if state.name == SERVICE_TAG else set()  # by StateDirectory=epad
        self._tags = {state_tag(state), state_tag(Path(self._state)), *service}
        self._names = {str(state), str(state.absolute()), self._state}
        self._known = frozenset(recorded)
        self._leaders = set(recorded)
        self._groups: set[Cgroup] = set()
        self.seen: frozenset[ProcessIdentity] = frozenset()

    async def members(self) -> frozenset[ProcessIdentity]:
        return self.look()

    def look(self) -> frozenset[ProcessIdentity]:
        """Find all that live."""
        known = self._known | self._marked()
        self._groups.update(group for member in known if (group := self._group(member)) is not None)
        known = known.union(*(inside(self._table, group) for group in self._groups))
        self._leaders.update(member for member in known if self._leads(member))
        kins = [Kin(leader, {}, known) for leader in (None, *self._leaders)]
        self._known = frozenset[ProcessIdentity]().union(*self._table.trees(kins))
        self.seen |= self._known
        return self._known

    def let_die(self, members: Collection[ProcessIdentity]) -> None:
        """Let them run, so that they meet the signal that waits for them."""
        for group in self._groups:
            with suppress(OSError):
                group.thaw()
        signal_all(self._table, members, signal.SIGCONT)

    def kill(self, members: Collection[ProcessIdentity]) -> None:
        for group in self._groups:
            with suppress(OSError):
                if os.getpid() not in group.pids():
                    group.kill()
        signal_all(self._table, members, signal.SIGKILL)

    def why_alive(self, member: ProcessIdentity) -> str:
        """Say why nothing has ended this one."""
        try:
            descriptor = self._table.open(member)
        except (ProcessGoneError, OSError) as error:
            return str(error)
        try:
            signal.pidfd_send_signal(descriptor, 0)
        except PermissionError:
            return "somebody else's: try as root"
        except OSError as error:
            return str(error.strerror)
        finally:
            os.close(descriptor)
        return "SIGKILL has not ended it: it is stuck in the kernel, or forks faster than it can be ended"

    def _marked(self) -> frozenset[ProcessIdentity]:
        snapshot = self._table.snapshot()
        marked = [stat for pid, stat in snapshot.items() if pid != os.getpid() and self._is_marked(stat)]
        return frozenset(self._table.identify(stat) for stat in marked)

    def _is_marked(self, stat: ProcessStat) -> bool:
        found = self._table.stamp(stat.pid)
        if any(bears(found, {STATE_MARK: state}) for state in self._names):
            return True
        pairs = (variable.partition(b"=") for variable in self._table.variables(stat))
        values = {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}
        if not (values.get(SUBSYSTEM_MARK) and values.get(STATE_MARK)):
            return False
        return os.path.realpath(values[STATE_MARK]) == self._state

    def _group(self, member: ProcessIdentity) -> Cgroup | None:
        """The control group that was made for a child, or for all of them; None if it is in none such."""
        found = cgroup_of(member.pid)
        if found is None or self._table.current(member) is None:
            return None
        paths = (found.path, *found.path.parents)
        own = (path for path in paths if any(is_own_group(path, tag) for tag in self._tags))
        return next((Cgroup(path) for path in own), None)

    def _leads(self, member: ProcessIdentity) -> bool:
        """Tell if it leads a session, which is then its own, and remains so when it has ended."""
        stat = self._table.current(member)
        return stat is not None and stat.session == stat.pid


def read_journal(path: Path, boot_id: str) -> tuple[frozenset[ProcessIdentity], str]:
    """Read which processes a dead daemon knew of, and why that cannot be told. Waits for no disk."""
    found: list[frozenset[ProcessIdentity]] = []
    why = [f"{path}: no answer within {JOURNAL_SECONDS:g} s"]

    def read() -> None:
        try:
            found.append(read_identities(path, boot_id))
            why[0] = ""
        except DatabaseError as error:
            why[0] = str(error)

    # Not an executor's: the interpreter waits for those when it ends.
    thread = threading.Thread(target=read, name="journal", daemon=True)
    thread.start()
    thread.join(JOURNAL_SECONDS)
    return frozenset[ProcessIdentity]().union(*found), why[0]
