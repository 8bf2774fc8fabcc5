"""Policies are kept for the next run."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_changes import a_policy

from epad.confinement.kept_policies import KeptPolicies


@given(st.integers())
def test_what_is_kept_is_read_as_it_was(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """Whatever is in a policy; only for its owner."""
    file = tmp_path_factory.mktemp("kept") / "cells/policies.json"
    policies = {"agent": a_policy(random.Random(seed))}
    KeptPolicies(file).write(policies)
    assert KeptPolicies(file).read() == policies
    assert file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("content", [b"", b"{", b'{"agent": {"profile": "of another version"}}'])
def test_what_cannot_be_read_is_none(tmp_path: Path, content: bytes) -> None:
    """As at a first start."""
    file = tmp_path / "policies.json"
    assert KeptPolicies(file).read() == {}
    file.write_bytes(content)
    assert KeptPolicies(file).read() == {}
