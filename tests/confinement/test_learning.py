"""The smallest policy for what a recording has seen, and what is never proposed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from epad.configuration.confine_schema import ConfineConfig
from epad.configuration.directories import Directories
from epad.configuration.load import load
from epad.configuration.schema import SubsystemConfig
from epad.confinement.learning import Proposal, propose, refused
from epad.confinement.policies import Policies
from epad.confinement.policy import Policy
from epad.confinement.recording import Recording

HOME = Path("/home/me")
POLICIES = Policies(
    Directories(HOME / ".local/state/epad", HOME / ".local/state/epad/run"),
    {"HOME": str(HOME), "PATH": "/bin"},
    resolve=lambda path: path,
)
PROJECT = {"/home/me/project/a.py", "/home/me/project/tests/test_a.py"}


def policy_of(confine: ConfineConfig) -> Policy:
    spec = SubsystemConfig(command=("/bin/true",), working_directory="/home/me/agent", confine=confine)
    return POLICIES.of("agent", structs.replace(load(), subsystems={"agent": spec}))


def proposal(**seen: Any) -> Proposal:
    return propose(Recording(**seen), policy_of, str(HOME), gateway_ports=[8700])


def test_whoever_stays_at_home_needs_nothing() -> None:
    """Its own directory, the system's files, a place for a moment, its model, a cache that may begin empty."""
    found = proposal(
        read={"/home/me/agent/agent.py", "/usr/lib/x.so", "/etc/passwd", "/proc/self/status", "/tmp/t/x"},
        written={"/home/me/agent/out", "/tmp/t/x", "/dev/null", "/home/me/.cache/thing/x"},
        created={"/tmp/t"},
        connected={("127.0.0.1", 8700)},
    )
    assert found == Proposal(ConfineConfig())


def test_what_is_written_elsewhere_is_the_workspace() -> None:
    """The directory around it all, but nothing as broad as a home."""
    assert proposal(written=PROJECT).confine.workspace == "/home/me/project"
    assert proposal(written={"/home/me/project"} | PROJECT).confine.workspace == "/home/me/project"
    assert proposal(written={"/srv/data/deep/er/x"}).confine.workspace == "/srv/data/deep/er"
    both = proposal(written=PROJECT | {"/home/me/other/x"})
    assert both.confine.workspace == "/home/me/project"
    assert both.left_out == (
        "write /home/me/other: a subsystem has one workspace, and wrote more below /home/me/project",
    )


def test_a_file_is_itself_and_several_are_their_directory() -> None:
    """A directory that is listed is one too; none of them is a home, or what lies above."""
    assert proposal(read={"/home/me/.gitconfig"}).confine.read == ("/home/me/.gitconfig",)
    models = {f"/srv/models/{name}" for name in "abc"}
    assert proposal(read=models).confine.read == ("/srv/models",)
    assert proposal(read={f"/home/me/{name}" for name in "abc"}).confine.read == (
        "/home/me/a",
        "/home/me/b",
        "/home/me/c",
    )
    seen = proposal(read={"/data/docs/a/x"}, listed={"/data/docs", "/data/docs/a", "/home/me", "/srv", "/"})
    assert seen.confine.read == ("/data/docs",)


def test_what_it_made_itself_it_need_not_be_given() -> None:
    """A cell has such places as well."""
    assert proposal(read={"/tmp/t/x"}, created={"/tmp/t"}).confine.read == ()
    assert proposal(read={"/tmp/other"}).confine.read == ("/tmp/other",)


SECRET = "keys and sessions are never given"
EPADS = "epad's own files are never given"
RUN = "it is run, or obeyed, outside of the cell"
SERVICE = "a service of this machine; hosts can name it, if it is meant"
STATE = "/home/me/.local/state/epad"


@pytest.mark.parametrize(
    ("kind", "what", "line"),
    [
        ("read", "/home/me/.ssh/id_rsa", f"read /home/me/.ssh/id_rsa: {SECRET}"),
        ("read", "/etc/shadow", f"read /etc/shadow: {SECRET}"),
        ("read", "/home/me/.mozilla/firefox/a", f"read /home/me/.mozilla/firefox/a: {SECRET}"),
        ("written", "/home/me/.netrc", f"write /home/me/.netrc: {SECRET}"),
        ("read", f"{STATE}/ledger.db", f"read {STATE}/ledger.db: {EPADS}"),
        ("written", "/home/me/agent/.git/hooks/x", f"write /home/me/agent/.git/hooks/x: {RUN}"),
        ("written", "/home/me/agent/.envrc", f"write /home/me/agent/.envrc: {RUN}"),
        ("connected", ("127.0.0.1", 5432), f"connect 127.0.0.1:5432: {SERVICE}"),
        ("sockets", "/run/docker.sock", "connect /run/docker.sock: a socket of this machine"),
    ],
)
def test_what_is_never_proposed_is_named(kind: str, what: object, line: str) -> None:
    """And nothing is proposed for it."""
    assert proposal(**{kind: {what}}) == Proposal(ConfineConfig(), (line,))


def test_hosts_are_proposed_by_their_names() -> None:
    """A private one with its address, and one without a name by its address alone."""
    seen = proposal(
        connected={("93.184.216.34", 443), ("10.0.0.5", 8000), ("1.1.1.1", 853), ("2606:2800::1", 443)},
        names={"93.184.216.34": "example.org", "10.0.0.5": "git.lan"},
    )
    assert seen.confine.hosts == ("1.1.1.1:853", "[2606:2800::1]", "example.org", "git.lan=10.0.0.5:8000")


def test_its_own_servers_are_no_service_of_the_machine() -> None:
    """Those that it bound, and those whose port the kernel chose."""
    assert proposal(connected={("127.0.0.1", 8080), ("::1", 50_123)}, ports={8080}) == Proposal(
        ConfineConfig()
    )


def test_a_gpu_is_asked_for_if_it_was_used() -> None:
    """By its device."""
    assert proposal(written={"/dev/nvidia0"}).confine.gpu


def test_what_a_policy_would_refuse_is_told() -> None:
    """For a recording that it was not made from."""
    policy = policy_of(ConfineConfig(hosts=("example.org",)))
    seen = Recording(
        read={"/srv/x", "/usr/bin/sh", "/tmp/mine/x"},
        listed={"/home/me/agent", "/home"},
        written={"/srv/y", "/home/me/agent/z"},
        created={"/tmp/mine"},
        connected={("93.184.216.34", 443), ("1.1.1.1", 443), ("127.0.0.1", 8700)},
        names={"93.184.216.34": "example.org"},
    )
    assert refused(seen, policy) == ("connect 1.1.1.1:443", "read /srv/x", "write /srv/y")
