"""Policies: what each profile gives, and what no table can give."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from epad.configuration.confine_schema import ConfineConfig, HouseConfineConfig
from epad.configuration.directories import Directories
from epad.configuration.load import load
from epad.configuration.schema import Config, SubsystemConfig
from epad.confinement.policy import (
    Ability,
    AbilityRequest,
    Access,
    FileRequest,
    HostRequest,
    Policy,
    access_at,
    allows,
    policy_of,
)

HOME = Path("/home/me")
DIRECTORIES = Directories(
    HOME / ".local/state/epad", Path("/run/user/1000/epad"), HOME / ".config/epad/epad.toml"
)
OWN = "/home/me/.local/state/epad/subsystems/agent"


def policy(
    table: Mapping[str, Any] | None = None,
    *,
    house: str = "open",
    links: Mapping[str, str] | None = None,
    **keys: Any,
) -> Policy:
    """Return the policy of a subsystem `agent`; `links` stand for the links of the disk."""
    confine = None if table is None else msgspec.convert(table, ConfineConfig)
    spec = SubsystemConfig(**{"command": ("/bin/true",), "confine": confine, **keys})
    config: Config = msgspec.structs.replace(
        load(), subsystems={"agent": spec}, confine=msgspec.convert({"default": house}, HouseConfineConfig)
    )
    found = links or {}
    return policy_of(
        "agent", config, DIRECTORIES, HOME, search_path="/bin", resolve=lambda path: found.get(path, path)
    )


def test_without_a_table_nothing_is_confined() -> None:
    """As before there was one."""
    of = policy()
    assert not of.confined
    assert allows(of, FileRequest("/home/me/.ssh/id_ed25519", write=True))
    assert allows(of, HostRequest("169.254.169.254", 80, "169.254.169.254"))
    assert all(allows(of, AbilityRequest(ability)) for ability in Ability)


def test_the_house_can_turn_its_default_round() -> None:
    """For whoever has no table; one that says `open` keeps it, and a client has nothing to confine."""
    assert policy(house="workspace").profile == "workspace"
    assert policy({"profile": "open"}, house="workspace").profile == "open"
    assert policy(house="workspace", kind="client", command=()).profile == "open"


@pytest.mark.parametrize(
    ("path", "access"),
    [
        ("/usr/bin/python3", Access.READ),
        ("/etc/passwd", Access.READ),
        ("/etc/ssl/private/key.pem", Access.NONE),
        ("/etc/shadow", Access.NONE),
        ("/var/lib/other", Access.NONE),
        ("/tmp/x", Access.OWN),
        ("/run/docker.sock", Access.OWN),
        ("/home/me", Access.OWN),
        ("/home/me/.cache/pip", Access.OWN),
        ("/home/you", Access.NONE),
        ("/home/me/project/src/a.py", Access.WRITE),
        ("/home/me/project/.git/index", Access.WRITE),
        ("/home/me/project/.git/hooks/pre-commit", Access.READ),
        ("/home/me/project/.git/config", Access.READ),
        ("/home/me/project/.git/config.old", Access.WRITE),
        ("/home/me/project/.envrc", Access.READ),
        ("/home/me/project/CLAUDE.md", Access.WRITE),
        ("/home/me/project/docs/frozen.md", Access.READ),
        ("/home/me/models/m.gguf", Access.READ),
        ("/home/me/.ssh/id_ed25519", Access.NONE),
        ("/home/me/.local/state/epad/ledger.db", Access.NONE),
        ("/home/me/.config/epad/epad.toml", Access.NONE),
        ("/run/user/1000/epad/control.sock", Access.NONE),
        (f"{OWN}/notes.db", Access.WRITE),
        ("/home/me/.local/state/epad/subsystems/other/notes.db", Access.NONE),
    ],
)
def test_a_workspace_has_its_own_files_alone(path: str, access: Access) -> None:
    """The system's to read, the workspace to write but for what others run, and the directory it starts in."""
    table = {"workspace": "~/project", "read": ["~/models"], "never": ["docs/frozen.md"]}
    assert access_at(policy(table), path) is access


def test_a_workspace_that_is_the_home_keeps_its_keys_and_its_shell() -> None:
    """What opens other doors is not to be had, and what runs outside is not to be written."""
    of = policy({"workspace": "/home/me"})
    assert access_at(of, "/home/me/notes.md") is Access.WRITE
    for secret in (".ssh/id_rsa", ".aws/credentials", ".netrc", ".mozilla/firefox/x/logins.json"):
        assert access_at(of, f"/home/me/{secret}") is Access.NONE
    for run in (".bashrc", ".config/autostart/x.desktop", ".config/systemd/user/x.service", ".local/bin/ls"):
        assert access_at(of, f"/home/me/{run}") is Access.READ


def test_a_workspace_above_the_home_has_it_too() -> None:
    """A home of the cell's own would hide what was asked for."""
    of = policy({"workspace": "/home"})
    assert access_at(of, "/home/me/notes.md") is Access.WRITE
    assert access_at(of, "/home/me/.ssh/id_rsa") is Access.NONE
    assert access_at(of, "/home/me/.bashrc") is Access.READ


def test_links_are_followed_before_anything_is_decided() -> None:
    """A workspace that is a link to the state is the state, and a link to keys leads to keys."""
    of = policy({"workspace": "~/w"}, links={"/home/me/w": "/home/me/.local/state/epad"})
    assert access_at(of, "/home/me/.local/state/epad/ledger.db") is Access.NONE
    for end in ("/home/me/.ssh", "/home/me/.ssh/id_rsa"):
        of = policy({"read": ["~/r"]}, links={"/home/me/r": end})
        assert access_at(of, "/home/me/.ssh/id_rsa") is Access.NONE


def test_an_environment_in_the_workspace_can_be_installed_into() -> None:
    """Its program is read from there, which takes nothing away."""
    of = policy({"workspace": "~/project"}, command=("/home/me/project/.venv/bin/python",))
    assert access_at(of, "/home/me/project/.venv/lib/x.py") is Access.WRITE


def test_sealed_writes_nothing_and_reaches_nobody() -> None:
    """Not even its model; /tmp is the cell's own."""
    of = policy({"profile": "sealed", "workspace": "~/project", "hosts": ["github.com"], "ask": True})
    assert access_at(of, "/home/me/project/a.py") is Access.READ
    assert access_at(of, f"{OWN}/a") is Access.READ
    assert access_at(of, "/tmp/a") is Access.OWN
    assert not allows(of, HostRequest("github.com", 443))
    assert not allows(of, AbilityRequest(Ability.MODEL))
    assert not of.ask


def test_gateway_only_has_the_files_of_its_user_and_no_sockets_of_the_machine() -> None:
    """Nor epad's own files."""
    of = policy({"profile": "gateway-only", "hosts": ["huggingface.co"]})
    assert access_at(of, "/home/me/.cache/huggingface/token") is Access.WRITE
    assert access_at(of, "/run/docker.sock") is Access.NONE
    assert access_at(of, "/home/me/.local/state/epad/ledger.db") is Access.NONE
    assert access_at(of, OWN) is Access.WRITE
    assert access_at(of, "/tmp/tmux-1000/default") is Access.OWN
    assert allows(of, HostRequest("huggingface.co", 443))
    assert not allows(of, HostRequest("huggingface.co", 80))
    assert not allows(of, AbilityRequest(Ability.MACHINE))


def test_a_name_leads_to_public_addresses_unless_its_rule_says_where_it_is() -> None:
    """An address as the rule is as good."""
    of = policy({"hosts": ["a.example", "b.example=10.0.0.6", "10.0.0.5:8000"]})
    assert allows(of, HostRequest("a.example", 443))
    assert not allows(of, HostRequest("a.example", 443, "10.0.0.6"))
    assert allows(of, HostRequest("b.example", 443, "10.0.0.6"))
    assert not allows(of, HostRequest("b.example", 443))
    assert allows(of, HostRequest("10.0.0.5", 8000, "10.0.0.5"))


def test_abilities_are_as_the_table_says() -> None:
    """A model only with a gateway, a GPU only if asked for, fewer walls only with `best`."""
    assert policy({}).abilities == {Ability.MODEL}
    assert policy({}, gateway=False).abilities == set()
    assert policy({"gpu": True, "require": "best"}).abilities == {
        Ability.MODEL,
        Ability.GPU,
        Ability.UNWALLED,
    }
    assert not policy({"require": "best"}).require_all


def test_each_path_has_one_rule() -> None:
    """So the deepest rule above a path is one."""
    paths = [rule.path for rule in policy({"workspace": "/home/me", "read": ["/usr", "/usr/"]}).files]
    assert paths == sorted(set(paths))
    assert not [path for path in paths if path != "/" and path.endswith("/")]
