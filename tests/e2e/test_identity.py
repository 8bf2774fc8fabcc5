"""Workload identity with the installed daemon: real subsystems ask with `spiffe`, which knows nothing of epad."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from installed import QUICK, Installation, installation
from patience import PATIENCE_SECONDS

from epad.supervisor.identity import parse_stat

PROGRAM = """
import json, os, time
from spiffe import WorkloadApiClient
def ask():
    try:
        with WorkloadApiClient() as client:
            tokens = {name: client.fetch_jwt_svid(audience={name}) for name in ("memory", "epad")}
            return {"x509": str(client.fetch_x509_svid().spiffe_id), "id": str(tokens["epad"].spiffe_id),
                    "pid": os.getpid(), **{name: one.token for name, one in tokens.items()}}
    except Exception as error:
        return {"error": repr(error) + repr(error.__cause__)}
while True:
    with open("said.new", "w") as file:
        json.dump(ask(), file)
    os.rename("said.new", "said.json")
    time.sleep(0.2)
"""
STRANGER = """
import os, sys
from spiffe import WorkloadApiClient
if sys.argv[2] != "-":
    os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
with WorkloadApiClient("unix://" + sys.argv[1]) as client:
    try:
        print("GOT", client.fetch_x509_svid().spiffe_id)
    except Exception as error:
        print(repr(error), repr(error.__cause__))
"""
TRUST = "house.test"
GO_CLIENT = shutil.which("go-spiffe-client")


def config(directory: Path, runtime: Path) -> str:
    program = directory / "asks.py"
    program.write_text(PROGRAM)
    command = json.dumps([sys.executable, str(program)])
    reads = json.dumps([str(Path(sys.prefix)), str(Path(os.__file__).parents[2]), str(program)])
    more = (
        f'[subsystems.go]\ncommand = ["{GO_CLIENT}"]\nrestart = {{policy = "never"}}\n' if GO_CLIENT else ""
    )
    return f"""{QUICK}
[daemon]
runtime_directory = "{runtime}"
[identity]
enabled = true
trust_domain = "{TRUST}"
[subsystems.agent]
command = {command}
[subsystems.boxed]
command = {command}
confine = {{profile = "workspace", read = {reads}}}
[subsystems.sealed]
command = {command}
confine = {{profile = "sealed", read = {reads}}}
{more}
"""


@pytest.fixture(scope="module")
def house() -> Iterator[Installation]:
    with installation() as house, tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        house.runtime = Path(place) / "run"  # where other users may come to its sockets
        Path(place).chmod(0o711)
        house.config.write_text(config(house.directory, house.runtime))
        house.start()
        yield house
        assert house.stop() == 0


def said(house: Installation, name: str) -> dict[str, Any]:
    """What a subsystem's newest look has brought; empty before the first."""
    try:
        found: dict[str, Any] = json.loads((house.state / "subsystems" / name / "said.json").read_text())
    except FileNotFoundError:
        return {}
    return found


def wait_for(house: Installation, name: str, key: str = "id") -> dict[str, Any]:
    house.wait(lambda: key in said(house, name), f"{key} of {name}")
    return said(house, name)


def at_gateway(house: Installation, token: str) -> int:
    """The status of a request that needs a key."""
    url = f"{house.status()['gateway']['url']}/v1/models"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def stranger(house: Installation, uid: str = "-") -> str:
    command = [sys.executable, "-c", STRANGER, f"{house.runtime}/identity/workload.sock", uid]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    return done.stdout


@pytest.mark.parametrize("name", ["agent", "boxed"])
def test_a_subsystem_has_its_own_id_confined_or_not(house: Installation, name: str) -> None:
    """Inside its cell it is process 2 or so; the kernel tells epad the number that it has outside."""
    found = wait_for(house, name)
    assert (found["id"], found["x509"]) == (f"spiffe://{TRUST}/subsystem/{name}",) * 2
    listed = house.ask("identity", "list")
    assert (listed["trust_domain"], listed["state"]) == (TRUST, "ready")
    (pid, *_) = {one["pid"] for one in listed["svids"] if one["subsystem"] == name}
    stat = parse_stat(Path(f"/proc/{pid}/stat").read_text())
    assert stat is not None
    assert (stat.pid == found["pid"]) is (name == "agent")


def test_a_sealed_cell_does_not_see_the_socket(house: Installation) -> None:
    """It reaches nothing, and so not this either."""
    house.wait(lambda: house.subsystem("sealed")["state"] == "running", "the sealed one")
    wait_for(house, "agent")
    assert "id" not in said(house, "sealed")
    assert not [one for one in house.ask("identity", "list")["svids"] if one["subsystem"] == "sealed"]


def test_a_process_that_is_no_subsystems_gets_nothing(house: Installation) -> None:
    """With the daemon's own uid, and with another."""
    wait_for(house, "agent")
    assert "belongs to no subsystem of epad" in stranger(house)
    assert house.events("identity.refused")[-1]["fields"]["uid"] == os.geteuid()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_nor_does_one_of_another_user(house: Installation) -> None:
    wait_for(house, "agent")
    assert "belongs to no subsystem of epad" in stranger(house, "65534")
    assert house.events("identity.refused")[-1]["fields"]["uid"] == 65534


def test_the_gateway_takes_a_jwt_svid_for_a_key(house: Installation) -> None:
    """Of its own audience alone, as it was issued, and not once the subsystem is held."""
    found = wait_for(house, "agent")
    assert at_gateway(house, found["epad"]) == 200
    assert at_gateway(house, found["memory"]) == 401
    head, body, signature = found["epad"].split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    claims["sub"] = f"spiffe://{TRUST}/subsystem/boxed"
    forged = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    assert at_gateway(house, f"{head}.{forged}.{signature}") == 401


def test_a_daemon_that_follows_a_crash_takes_what_its_forerunner_issued(house: Installation) -> None:
    token = wait_for(house, "agent")["epad"]
    bundle = house.ask("identity", "bundle")["document"]
    house.kill()
    house.start()
    assert at_gateway(house, token) == 200
    assert house.ask("identity", "bundle")["document"] == bundle


def test_others_verify_by_the_bundle(house: Installation) -> None:
    """A rotation changes it: what was signed before is verified by the new one too."""
    found = wait_for(house, "agent")

    def verified(token: str, document: str) -> dict[str, Any]:
        keys = {one["kid"]: one for one in json.loads(document)["keys"] if one["use"] == "jwt-svid"}
        key = jwt.PyJWK(keys[jwt.get_unverified_header(token)["kid"]], "ES256")
        claims: dict[str, Any] = jwt.decode(token, key, audience="memory")
        return claims

    before = house.ask("identity", "bundle")["document"]
    assert verified(found["memory"], before)["sub"] == f"spiffe://{TRUST}/subsystem/agent"
    assert house.ctl("identity", "rotate", "--reason", "a test", "--yes").returncode == 0
    after = house.ask("identity", "bundle")["document"]
    assert verified(found["memory"], after)["sub"] == f"spiffe://{TRUST}/subsystem/agent"
    house.wait(
        lambda: (
            jwt.get_unverified_header(said(house, "agent")["memory"])["kid"]
            != jwt.get_unverified_header(found["memory"])["kid"]
        ),
        "a token of the new authority",
    )
    newest = said(house, "agent")["memory"]
    assert verified(newest, after)["sub"] == f"spiffe://{TRUST}/subsystem/agent"
    with pytest.raises(KeyError):
        verified(newest, before)


def test_a_held_subsystem_has_no_identity(house: Installation) -> None:
    token = wait_for(house, "boxed")["epad"]
    assert at_gateway(house, token) == 200
    assert house.ctl("quarantine", "agent", "--reason", "a test").returncode == 0
    assert at_gateway(house, wait_for(house, "agent")["epad"]) in {403, 429, 503}
    assert at_gateway(house, token) == 200
    assert house.ctl("release", "agent", "--reason", "a test").returncode == 0


def test_the_keys_are_for_the_daemon_alone(house: Installation) -> None:
    """In a file of its own, mode 0600; in no event, answer or line of the log; and the child is nobody."""
    wait_for(house, "agent")
    keys = house.state / "keys/identity.json"
    assert keys.stat().st_mode & 0o777 == 0o600
    secrets = [
        one[part] for one in json.loads(keys.read_text())["authorities"] for part in ("key", "jwt_key")
    ]
    assert len(secrets) >= 2
    told = [house.log.read_text(), json.dumps(house.ask("identity", "list"))]
    events = [house.events(f"identity.{kind}") for kind in ("issued", "refused", "rotated")]
    assert all(events)
    told += [house.ask("identity", "bundle")["document"], json.dumps(events)]
    for secret in secrets:
        middle = "".join(secret.splitlines()[1:3])
        assert [middle in text for text in told] == [False] * len(told)
        assert [secret[40:80] in text for text in told] == [False] * len(told)
    token = said(house, "agent")["epad"]
    assert [token in text for text in told] == [False] * len(told)


@pytest.mark.skipif(GO_CLIENT is None, reason="no go-spiffe-client here")
def test_go_spiffe_gets_svids_and_speaks_mutual_tls_with_them(house: Installation) -> None:
    """The other official client: docs/identity.md says how it is built."""
    house.wait(lambda: "mutual TLS" in house.ctl("logs", "go").stdout, "mutual TLS")
    printed = house.ctl("logs", "go").stdout
    assert f"validated here spiffe://{TRUST}/subsystem/go" in printed
    assert "FAILED" not in printed
