"""The knowledge vault under the installed daemon: added, searched, rewritten round epad, held."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from installed import Installation
from tool_agent import Agent, records, scene

from epad.ledger.record import Rooted

BUNDLE = {
    "type": "bundle",
    "id": "bundle--0b7d6d2b-0f0e-4b9f-8f43-6f7f9f7f3b11",
    "objects": [
        {
            "type": "attack-pattern",
            "id": "attack-pattern--7385dfaf-6886-4229-9ecd-6fd678040830",
            "name": "Command and Scripting Interpreter",
            "external_references": [{"source_name": "mitre-attack", "external_id": "T1059"}],
        }
    ],
}
WHY = ("--reason", "for the test")
MORE = '[vault.append]\n"logs/*.md" = "author"\n[probes.vault]\ninterval_seconds = 0.5\n'


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Installation, Agent]]:
    """A daemon, and an agent that may append to logs."""
    folder = tmp_path_factory.mktemp("vault")
    (folder / "work").mkdir()
    with scene(folder / "work", 'tier = "author"\nmemory = "shared"\n' + MORE) as (house, agent):
        yield house, agent


def add(house: Installation, path: str, data: bytes) -> None:
    file = house.state / "given"
    file.write_bytes(data)
    done = house.ctl("vault", "add", path, str(file), *WHY)
    assert done.returncode == 0, done.stderr


def versions(house: Installation) -> list[Path]:
    return [path for path in (house.state / "vault/documents/versions").rglob("*") if path.is_file()]


def test_an_agent_finds_what_a_person_has_added(place: tuple[Installation, Agent]) -> None:
    """By an id of ATT&CK, with the object and the version that it cites; and it appends where it may."""
    house, agent = place
    add(house, "ti/attack.json", json.dumps(BUNDLE).encode())
    add(house, "runbooks/disk.md", b"# Disk\n\n## Full\n\nremove old segments\n")
    answer = agent.call("vault_search", query="T1059")
    assert not answer["is_error"], answer
    found = answer["content"]["results"][0]
    assert found["section"] == BUNDLE["objects"][0]["id"]  # type: ignore[index]
    assert found["uri"] == "epad://vault/ti/attack.json"
    whole = agent.call("memory_get", name="epad://vault/runbooks/disk.md")["content"]
    assert "remove old segments" in whole["observations"][0]["text"]

    log = "epad://vault/logs/today.md"
    assert not agent.call("memory_observe", entity=log, content="the disk was full")["is_error"]
    assert agent.call("memory_observe", entity="epad://vault/runbooks/disk.md", content="x")["is_error"]
    assert house.ctl("vault", "show", "logs/today.md").stdout == "the disk was full\n"
    house.wait(lambda: any(isinstance(one, Rooted) for one in records(house)), "a root in the ledger")


def test_retract_and_undo_give_the_same_bytes_back(place: tuple[Installation, Agent]) -> None:
    """A retracted document is refused in words."""
    house, agent = place
    data = "# Ünïcode\r\n\nno newline at the end".encode()
    add(house, "notes/odd.md", data)
    assert house.ctl("vault", "retract", "notes/odd.md", "--yes", *WHY).returncode == 0
    told = agent.call("memory_get", name="epad://vault/notes/odd.md")
    assert "was retracted: for the test" in told["content"]["error"]
    assert house.ctl("vault", "undo", "notes/odd.md", *WHY).returncode == 0
    shown = house.ctl("--json", "vault", "history", "notes/odd.md").stdout
    changes = json.loads(shown)["changes"]
    assert [one["kind"] for one in changes] == ["add", "retract", "undo"]
    assert changes[0]["sha256"] == changes[2]["sha256"]


def is_held(house: Installation) -> bool:
    """Whether the vault's probe holds it. To ask by calls would be to call in vain, which is held by itself."""
    return any(one["probe"] == "vault" for one in house.status()["anomalies"])


def test_a_rewrite_round_epad_holds_the_vault_until_it_is_mended(place: tuple[Installation, Agent]) -> None:
    """With its times set back; `explain` tells what changed, and the right bytes end it."""
    house, agent = place
    [file] = [one for one in versions(house) if b"old segments" in one.read_bytes()]
    before, status = file.read_bytes(), file.stat()
    file.chmod(0o600)
    file.write_bytes(before.replace(b"old", b"all"))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    house.wait(lambda: is_held(house), "the hold")

    explained = house.ctl("explain", "tools-vault").stdout
    assert f"version {file.name[:16]} of runbooks/disk.md was changed" in explained
    assert agent.call("vault_search", query="disk")["is_error"]
    assert agent.call("memory_get", name="epad://vault/runbooks/disk.md")["is_error"]
    assert not agent.call("memory_list")["is_error"], "the other stores go on"
    assert house.ctl("vault", "verify").returncode == 1
    refused = house.ctl("vault", "retract", "notes/odd.md", "--yes", *WHY)
    assert refused.returncode != 0
    assert "was changed around epad" in refused.stderr

    file.write_bytes(before)
    house.wait(lambda: not is_held(house), "the end of the hold")
    assert not agent.call("vault_search", query="disk")["is_error"]
