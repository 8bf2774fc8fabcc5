"""Secrets as they are read for the way out, and as a policy has them."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog

from epad.configuration.secret_schema import SecretConfig
from epad.confinement.changes import policy_changes
from epad.confinement.policy import Policy, SecretRequest, allows
from epad.confinement.secret_files import read_secrets
from runners.egress.messages import Secret

HOST = "api.github.com"


def policy(*secrets: tuple[str, str]) -> Policy:
    held = frozenset(SecretRequest(*secret) for secret in secrets)
    return Policy("agent", "workspace", "/w", "/w", (), secrets=held)


async def test_a_secret_is_read_with_its_hosts(tmp_path: Path) -> None:
    """From a file, or from systemd's credentials; without the line's end."""
    (tmp_path / "token").write_text("s3cr3t\n")
    by_file = SecretConfig((HOST, "b.example"), file=str(tmp_path / "token"))
    by_credential = SecretConfig((HOST,), credential="token")
    for config in (by_file, by_credential):
        found = await read_secrets(policy(("github", HOST)), {"github": config}, tmp_path)
        assert found == (Secret("github", (HOST,), "s3cr3t"),)


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines", b"a\0b", b"\xff", b"x" * 5_000])
async def test_what_is_no_line_of_text_is_no_secret(tmp_path: Path, content: bytes) -> None:
    """It could end a field and begin another; the others are read."""
    (tmp_path / "bad").write_bytes(content)
    (tmp_path / "good").write_text("s3cr3t")
    config = {name: SecretConfig((HOST,), file=str(tmp_path / name)) for name in ("bad", "good")}
    with structlog.testing.capture_logs() as logs:
        found = await read_secrets(policy(("bad", HOST), ("good", HOST)), config, None)
    assert [one.name for one in found] == ["good"]
    assert [one["secret"] for one in logs] == ["bad"]


async def test_a_credential_needs_its_directory() -> None:
    with structlog.testing.capture_logs() as logs:
        assert (
            await read_secrets(policy(("a", HOST)), {"a": SecretConfig((HOST,), credential="a")}, None) == ()
        )
    assert "LoadCredential=" in logs[0]["error"]


def test_a_secret_more_widens_a_policy_at_once() -> None:
    """By name and host."""
    old, new = policy(("github", HOST)), policy(("github", HOST), ("github", "b.example"))
    assert allows(new, SecretRequest("github", "b.example"))
    assert not allows(old, SecretRequest("github", "b.example"))
    [change] = policy_changes({"agent": old}, {"agent": new})
    assert change.lines() == ("agent: + send the secret github to b.example; at once",)
