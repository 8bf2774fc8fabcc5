"""A person's orders about stored texts: done by the store's child, and refused in words where they cannot be."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog

from epad.operations.memory_orders import MemoryOrders
from epad.operations.protocol import ConflictError
from epad.vault.child import VaultChild

SESSION = "a" * 32


async def nothing_known() -> tuple[str, ...]:
    return ()


async def another() -> tuple[str, ...]:
    return ("f" * 64,)


@pytest.fixture
async def child(tmp_path: Path) -> AsyncIterator[VaultChild]:
    made = VaultChild(tmp_path / "vault", structlog.get_logger())
    arguments = {"name": "rule", "content": "tests come first"}
    await made.ask("memory_store", {"by": {"author": "chat", "session": SESSION}, "arguments": arguments})
    yield made
    await made.close()


async def test_a_text_is_shared_listed_and_hidden(child: VaultChild) -> None:
    """In the words that a person reads; the chain is whole afterwards."""
    orders = MemoryOrders(child, nothing_known)
    assert "shared from now on" in await orders.promote("rule", "", "useful")
    listed = await orders.show("")
    assert [(one["name"], one["scope"], one["author"]) for one in listed["entities"]] == [
        ("rule", "shared", "chat"),
        ("rule", SESSION, "chat"),
    ]
    assert "texts of 'rule' are hidden" in await orders.retract("rule", "", "wrong")
    assert "rows of session" in await orders.retract("", SESSION, "wrong")
    assert (await orders.show(""))["hidden_sessions"] == [SESSION]
    assert (await orders.show(SESSION))["entities"] == []
    assert (await orders.verify())["faults"] == []


async def test_what_cannot_be_done_is_said(child: VaultChild) -> None:
    """With the fix."""
    orders = MemoryOrders(child, nothing_known)
    with pytest.raises(ConflictError, match="nothing is named"):
        await orders.retract("", "", "r")
    with pytest.raises(ConflictError, match="no session has a memory named 'nope'"):
        await orders.promote("nope", "", "r")


async def test_a_daemon_without_tools_has_no_memory() -> None:
    """Each order says so."""
    orders = MemoryOrders(None, nothing_known)
    with pytest.raises(ConflictError, match="there are no tools"):
        await orders.show("")
    with pytest.raises(ConflictError, match="there are no tools"):
        await orders.promote("rule", "", "r")


async def test_a_head_of_the_ledger_that_the_store_lacks_is_a_fault(child: VaultChild) -> None:
    """As where somebody has rewritten all rows and their chain; the head it has is none."""
    head = (await MemoryOrders(child, nothing_known).verify())["head"]

    async def its_own() -> tuple[str, ...]:
        return (head,)

    assert (await MemoryOrders(child, its_own).verify())["faults"] == []
    [fault] = (await MemoryOrders(child, another).verify())["faults"]
    assert "the ledger has the head ffff" in fault
