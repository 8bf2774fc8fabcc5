"""The gate, exhaustively."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epad.gate.permissions import UNMAPPED_UID, Tier, allow, tier_of_peer
from epad.operations.registry import Operation

OWN_UID = 990
OPERATOR_GID = 44

PERMITTED = {
    (Tier.OPERATOR, Operation.STATUS_READ),
    (Tier.OPERATOR, Operation.EVENTS_READ),
    (Tier.OPERATOR, Operation.EXPLAIN_READ),
    (Tier.OPERATOR, Operation.PHASE_READ),
    (Tier.OPERATOR, Operation.RECOVERY_READ),
    (Tier.OPERATOR, Operation.BUDGETS_READ),
    (Tier.OPERATOR, Operation.API_READ),
    (Tier.OPERATOR, Operation.QUARANTINE),
    (Tier.OPERATOR, Operation.RELEASE),
    (Tier.OPERATOR, Operation.PAUSE),
    (Tier.OPERATOR, Operation.RESUME),
    (Tier.OPERATOR, Operation.RESTART),
    (Tier.OPERATOR, Operation.STOP),
    (Tier.OWNER, Operation.RELOAD),
    (Tier.OPERATOR, Operation.LOGS_READ),
    (Tier.OPERATOR, Operation.FORCE_PHASE),
    (Tier.OPERATOR, Operation.LIFEBOAT),
    (Tier.OPERATOR, Operation.SET_BUDGET),
    (Tier.OPERATOR, Operation.RELAUNCH),
    (Tier.OPERATOR, Operation.CHECKPOINT),
    (Tier.OWNER, Operation.ROTATE_KEY),
    (Tier.OWNER, Operation.ACCEPT_DATASTORE),
    (Tier.OWNER, Operation.ACCEPT_CHANGE),
    (Tier.OWNER, Operation.ACCEPT_LOSS),
    (Tier.OWNER, Operation.UPGRADE),
    (Tier.OWNER, Operation.REVOKE_KEY),
    (Tier.OPERATOR, Operation.CONFINE_DIFF_READ),
    (Tier.OPERATOR, Operation.APPROVALS_READ),
    (Tier.OPERATOR, Operation.TOOLS_READ),
    (Tier.OPERATOR, Operation.AGENTS_READ),
    (Tier.OPERATOR, Operation.TOOLS_SERVERS_READ),
    (Tier.OPERATOR, Operation.TOOLS_DIFF_READ),
    (Tier.OWNER, Operation.ACCEPT_TOOLS),
    (Tier.OPERATOR, Operation.TRACE_READ),
    (Tier.OPERATOR, Operation.UNDO_PLAN_READ),
    (Tier.OPERATOR, Operation.UNDO),
    (Tier.OPERATOR, Operation.APPROVE),
    (Tier.OPERATOR, Operation.DENY),
    (Tier.OPERATOR, Operation.REVOKE_HOST),
    (Tier.OWNER, Operation.LEARN),
    (Tier.OPERATOR, Operation.CHANGES_READ),
    (Tier.OPERATOR, Operation.MEMORY_READ),
    (Tier.OPERATOR, Operation.MEMORY_VERIFY_READ),
    (Tier.OPERATOR, Operation.PROMOTE_MEMORY),
    (Tier.OPERATOR, Operation.IDENTITY_READ),
    (Tier.OPERATOR, Operation.IDENTITY_BUNDLE_READ),
    (Tier.OWNER, Operation.ROTATE_IDENTITY),
    (Tier.OPERATOR, Operation.RETRACT_MEMORY),
    (Tier.OPERATOR, Operation.SECRETS_READ),
    (Tier.OWNER, Operation.SET_SECRET),
    (Tier.OWNER, Operation.ROTATE_SECRET),
    (Tier.OWNER, Operation.BIND_SECRET),
    (Tier.OPERATOR, Operation.TEST_SECRET),
    (Tier.OWNER, Operation.EXPORT_SECRET),
    (Tier.OWNER, Operation.REMOVE_SECRET),
    (Tier.OWNER, Operation.UNLOCK_SECRETS),
    (Tier.OPERATOR, Operation.VAULT_READ),
    (Tier.OPERATOR, Operation.VAULT_SHOW_READ),
    (Tier.OPERATOR, Operation.VAULT_HISTORY_READ),
    (Tier.OPERATOR, Operation.VAULT_VERIFY_READ),
    (Tier.OPERATOR, Operation.ADD_DOCUMENT),
    (Tier.OPERATOR, Operation.RETRACT_DOCUMENT),
    (Tier.OPERATOR, Operation.UNDO_DOCUMENT),
    (Tier.OBSERVER, Operation.STATUS_READ),
    (Tier.OBSERVER, Operation.EVENTS_READ),
    (Tier.OBSERVER, Operation.IDENTITY_READ),
    (Tier.OBSERVER, Operation.IDENTITY_BUNDLE_READ),
    (Tier.OBSERVER, Operation.EXPLAIN_READ),
    (Tier.OBSERVER, Operation.PHASE_READ),
    (Tier.OBSERVER, Operation.RECOVERY_READ),
    (Tier.OBSERVER, Operation.BUDGETS_READ),
    (Tier.OBSERVER, Operation.API_READ),
    (Tier.OBSERVER, Operation.CONFINE_DIFF_READ),
    (Tier.OBSERVER, Operation.APPROVALS_READ),
    (Tier.OBSERVER, Operation.TOOLS_READ),
    (Tier.OBSERVER, Operation.AGENTS_READ),
    (Tier.OBSERVER, Operation.TOOLS_SERVERS_READ),
    (Tier.OBSERVER, Operation.TOOLS_DIFF_READ),
    (Tier.OBSERVER, Operation.TRACE_READ),
    (Tier.SUBSYSTEM, Operation.MODEL_CALL),
}
PERMITTED |= {(Tier.OWNER, operation) for tier, operation in PERMITTED if tier is Tier.OPERATOR}
"""An owner may all that an operator may."""


@pytest.mark.parametrize("tier", Tier)
@pytest.mark.parametrize("operation", Operation)
def test_every_pair_is_decided_as_written(tier: Tier, operation: Operation) -> None:
    """Every (tier, operation) has the answer of the list above, with a reason that names both."""
    decision = allow(tier, operation)
    assert decision.allowed is ((tier, operation) in PERMITTED)
    assert tier in decision.reason
    assert operation in decision.reason


@pytest.mark.parametrize(
    ("uid", "gids", "operator_gid", "tier"),
    [
        (0, (0,), None, Tier.OWNER),
        (OWN_UID, (OWN_UID,), None, Tier.OWNER),
        (1000, (1000, OPERATOR_GID), OPERATOR_GID, Tier.OWNER),
        (1000, (1000, OPERATOR_GID), None, Tier.OBSERVER),
        (1000, (1000,), OPERATOR_GID, Tier.OBSERVER),
        (1000, (), OPERATOR_GID, Tier.OBSERVER),
        (UNMAPPED_UID, (OPERATOR_GID,), OPERATOR_GID, Tier.OBSERVER),
        (UNMAPPED_UID, (), None, Tier.OBSERVER),
        (-1, (), None, Tier.STRANGER),
    ],
)
def test_the_tier_comes_from_the_credentials(
    uid: int, gids: tuple[int, ...], operator_gid: int | None, tier: Tier
) -> None:
    """Root, the daemon's user and operators give orders; other users look, `nobody` and the unmapped too."""
    assert tier_of_peer(uid, gids, OWN_UID, operator_gid) is tier


@given(uid=st.integers(-2, 70_000), gids=st.frozensets(st.integers(0, 70_000), max_size=5))
def test_without_an_operator_group_no_group_gives_orders(uid: int, gids: frozenset[int]) -> None:
    """With control.operator_group empty, only root and the daemon's own user may all."""
    tier = tier_of_peer(uid, gids, OWN_UID, None)
    assert (tier is Tier.OWNER) is (uid in {0, OWN_UID})


@given(uid=st.integers(), gids=st.frozensets(st.integers(0, 70_000)), own=st.integers(0, 70_000))
def test_no_peer_of_the_socket_is_ever_a_subsystem(uid: int, gids: frozenset[int], own: int) -> None:
    """A subsystem is known by its key alone, so a Unix peer cannot make a model call."""
    assert not allow(tier_of_peer(uid, gids, own, 7), Operation.MODEL_CALL).allowed
