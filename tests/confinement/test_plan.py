"""Plans of cells, from a policy and what the machine can do. Pure."""

from __future__ import annotations

from dataclasses import replace

import pytest

from epad.confinement.plan import Abilities, MissingWallsError, Program, plan_of, tree_of
from epad.confinement.policy import Ability, Access, FileRule, Policy
from runners.cell.plan import Door, Wall

RULES = (
    FileRule("/dev", Access.OWN),
    FileRule("/home/me", Access.OWN),
    FileRule("/home/me/w", Access.WRITE),
    FileRule("/home/me/w/.envrc", Access.READ),
    FileRule("/home/me/w/.git/hooks", Access.READ),
    FileRule("/home/me/w/.ssh", Access.NONE),
    FileRule("/proc", Access.OWN),
    FileRule("/tmp", Access.OWN),
    FileRule("/usr", Access.READ),
    FileRule("/var/lib/epad", Access.NONE),
)
POLICY = Policy("agent", "workspace", "/home/me/w", "/home/me/w", RULES)
BEST = replace(POLICY, abilities=frozenset({Ability.UNWALLED}))
PROGRAM = Program(("agent",), {}, limits=(("RSS", 7),), shown=("/run/epad/notify/agent",))
NO_NAMESPACES = Abilities(
    dict.fromkeys(
        (Wall.NETWORK, Wall.FILES, Wall.PROCESSES, Wall.PROC, Wall.IPC, Wall.HOSTNAME, Wall.CGROUPS), "EPERM"
    )
)
DEBIAN_12 = Abilities(
    dict.fromkeys(
        (Wall.LANDLOCK_TRUNCATE, Wall.LANDLOCK_TCP, Wall.LANDLOCK_IOCTL, Wall.LANDLOCK_SCOPE), "ABI 2"
    )
)


def test_rules_become_a_tree() -> None:
    """Read inside a root that is written is protected, none inside what is seen is hidden, /dev is made anyway."""
    tree = tree_of(POLICY, ("/run/epad/notify/agent",))
    assert tree.base == "empty"
    assert tree.read == ("/usr", "/run/epad/notify/agent")
    assert tree.write == ("/home/me/w",)
    assert tree.protect == ("/home/me/w/.envrc", "/home/me/w/.git/hooks/")
    assert tree.hide == ("/home/me/w/.ssh",)
    assert tree.empty == ("/home/me", "/tmp")


def test_the_whole_host_may_be_the_base() -> None:
    """Of a model server, whose sockets of services are hidden."""
    files = (FileRule("/", Access.WRITE), FileRule("/run", Access.NONE), FileRule("/etc/x", Access.READ))
    tree = tree_of(replace(POLICY, files=files))
    assert (tree.base, tree.write, tree.hide) == ("host", (), ("/run",))


def test_a_network_of_its_own_needs_no_rules_of_ports() -> None:
    plan = plan_of(POLICY, PROGRAM, Abilities(), (Door("127.0.0.1", 8711),))
    assert Wall.LANDLOCK_TCP not in plan.walls
    assert set(plan.walls) == set(Wall) - {Wall.LANDLOCK_TCP}
    assert plan.syscalls.unix_sockets
    assert plan.required == "all"
    assert dict(plan.limits) == {"CORE": 1, "NPROC": 4_096, "RSS": 7}


def test_without_a_network_of_its_own_ports_are_ruled() -> None:
    """And sockets that Landlock does not see are closed."""
    plan = plan_of(BEST, PROGRAM, NO_NAMESPACES, ports=(8710,))
    assert Wall.LANDLOCK_TCP in plan.walls
    assert Wall.NETWORK in plan.walls  # tried, and reported as missing by the cell itself
    assert not plan.syscalls.unix_sockets
    server = replace(BEST, profile="gateway-only")
    assert plan_of(server, PROGRAM, NO_NAMESPACES).syscalls.unix_sockets
    assert not plan.syscalls.datagrams
    assert plan.ports == (8710,)
    assert plan.required == "best"


def test_a_policy_that_requires_all_has_no_plan_without() -> None:
    """The walls that are missed are named, with the reason and the fix; not those that others cover."""
    with pytest.raises(
        MissingWallsError, match=r"subsystems.agent: .*network, .*\(EPERM\).*require = \"best\""
    ) as error:
        plan_of(POLICY, PROGRAM, NO_NAMESPACES)
    assert Wall.HOSTNAME not in error.value.missing


def test_a_wall_that_others_cover_is_not_missed() -> None:
    """Debian 12 has Landlock's second ABI."""
    plan = plan_of(POLICY, PROGRAM, DEBIAN_12)
    assert not DEBIAN_12.missing.keys() & set(plan.walls)
    assert Wall.LANDLOCK_REFER in plan.walls


def test_root_becomes_the_user_without_a_user_namespace() -> None:
    """And the kernel would count all of that user's processes, so no limit of them is set."""
    program = replace(PROGRAM, uid=1000, gid=1000, groups=(44,))
    plan = plan_of(POLICY, program, Abilities(user_namespace=False))
    assert (plan.uid, plan.gid, plan.groups, plan.user_namespace) == (1000, 1000, (44,), False)
    assert "NPROC" not in dict(plan.limits)


def test_a_gpu_brings_devices_and_memory_files() -> None:
    plan = plan_of(replace(POLICY, abilities=frozenset({Ability.GPU})), PROGRAM, Abilities())
    assert "/dev/nvidiactl" in plan.tree.devices
    assert plan.syscalls.memory_files == "any"
    assert plan.gpu
