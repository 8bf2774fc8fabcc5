"""Remember the group of each subsystem when it was last configured: its spending still counts for that group.

The ledger names the subsystem of a turn, not its group. Without this, a member that is taken out of the configuration
would take its spending out of the group's budget at the next start.
"""

from __future__ import annotations

from collections.abc import Mapping

import apsw

from epad.storage.database import Database, fetch

GROUP_SCHEMA = """
CREATE TABLE IF NOT EXISTS group_member(subsystem TEXT PRIMARY KEY, group_name TEXT NOT NULL) STRICT;
"""
_REMEMBER = (
    "INSERT INTO group_member VALUES (?, ?) ON CONFLICT DO UPDATE SET group_name = excluded.group_name"
)


async def remember_groups(database: Database, configured: Mapping[str, str]) -> dict[str, str]:
    """Keep the group of each configured subsystem; return it, and the last one of every other that was.

    A subsystem without a group has "". Raises DatabaseError.
    """

    def work(connection: apsw.Connection) -> dict[str, str]:
        known: dict[str, str] = dict(fetch(connection, "SELECT subsystem, group_name FROM group_member"))
        changed = [(name, group) for name, group in configured.items() if known.get(name) != group]
        if changed:
            connection.executemany(_REMEMBER, changed)
        return {**known, **configured}

    return await database.write(work)
