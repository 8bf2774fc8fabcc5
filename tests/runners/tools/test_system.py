"""The host as tools tell of it: true, without command lines, secrets and connections."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_gpus import fake_nvml
from tool_process import World, tool_worker

from runners.tools import environment_shown, host_network, host_processes
from runners.tools.environment_shown import MASK


def test_the_host_is_described(world: World) -> None:
    """As the kernel says."""
    told = world.worker("system_info")
    assert told["kernel"] == os.uname().release
    assert told["memory"] == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < told["memory_available"] < told["memory"]
    disk = world.worker("disk_usage")
    assert disk["total"] == os.statvfs(world.root).f_blocks * os.statvfs(world.root).f_frsize


def test_processes_have_names_and_no_command_lines(world: World) -> None:
    """A secret in an argument or a variable of another program is not shown, whatever its name."""
    code = "import ctypes, sys; ctypes.CDLL(None).prctl(15, b'odd) (name\\x1b'); print(1, flush=True); sys.stdin.read()"
    environment = {**os.environ, "PLANTED": "hunter2-in-a-variable"}
    command = [sys.executable, "-c", code, "--password=hunter2"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as running:
        assert running.stdout
        running.stdout.readline()
        listed = world.worker("process_list", name="ODD) (", limit=1)
        assert [each["pid"] for each in listed["processes"]] == [running.pid]
        assert listed["processes"][0]["name"] == "odd) (name?"
        assert listed["processes"][0]["rss"] > 1 << 20
        everything = json.dumps(world.worker("process_list", limit=1000))
        running.communicate()
    assert "hunter2" not in everything
    assert world.worker("process_list", limit=2)["total"] > 2


def test_a_line_of_stat_is_read_by_its_last_bracket() -> None:
    """A name may have brackets, spaces and bytes that are no text."""
    fields = b"S " + b"0 " * 10 + b"150 50 " + b"0 " * 8 + b"7 "
    process = host_processes.parse(b"42 (a) R (\xff) " + fields + b"0 0")
    assert (process.pid, process.name, process.rss) == (42, "a) R (�", 7 * os.sysconf("SC_PAGE_SIZE"))
    assert process.cpu == round(200 / os.sysconf("SC_CLK_TCK"), 2)


SECRETS = [
    "http://user:hunter2@proxy.example.org:8080",
    "sk-proj-abcdefghijklmnop",
    "ghp_abcdefghij0123456789ABCDEFGHIJ",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N",
    "AKIAIOSFODNN7EXAMPLE",
    "d41d8cd98f00b204e9800998ecf8427e",
    "/opt/tool?token=Zx81kQp04LmTnB7vYw2c",
    "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY00",
]
PLAIN = [
    "/usr/local/bin:/usr/bin:/home/me/.local/share/flatpak/exports/bin",
    "en_GB.UTF-8",
    "/run/user/1000/wayland-0",
    "http://proxy.example.org:8080",
    "/home/me/projects/internationalisation_of_documents",
    "0,1",
    "-j16",
    "/opt/homebrew/lib/node_modules/npm-20",
]


@pytest.mark.parametrize("value", SECRETS)
def test_a_secret_in_a_shown_variable_is_masked(value: str) -> None:
    """Wherever it stands in the value."""
    assert MASK in environment_shown.masked(value)
    assert "hunter2" not in environment_shown.masked(value)


@pytest.mark.parametrize("value", PLAIN)
def test_plain_values_are_shown(value: str) -> None:
    """The benign twin."""
    assert environment_shown.masked(value) == value


def test_variables_are_shown_by_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name; another's value is masked and never in the worker that the daemon starts; a missing one is left out."""
    environment = {"PATH": "/bin", "API_KEY": "hunter2", "HTTPS_PROXY": "http://a:hunter2@b", "LC_TIME": "C"}
    told = environment_shown.to_json(environment)
    assert "hunter2" not in told
    for name in environment:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(environment_shown.VARIABLE, told)
    with tool_worker("system", tmp_path) as worker:
        assert worker("env_vars")["values"] == {"PATH": "/bin", "LC_TIME": "C", "HTTPS_PROXY": "http://***@b"}
        names = ["API_KEY", "PATH", "MISSING", environment_shown.VARIABLE]
        assert worker("env_vars", names=names)["values"] == {"API_KEY": MASK, "PATH": "/bin"}


@pytest.mark.parametrize(
    ("family", "bound", "asked", "is_open"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1", True),
        (socket.AF_INET, "127.0.0.1", "localhost", True),
        (socket.AF_INET, "0.0.0.0", "127.0.0.1", True),
        (socket.AF_INET, "127.0.0.1", "::1", False),
        (socket.AF_INET6, "::1", "::1", True),
        (socket.AF_INET6, "::1", "127.0.0.1", False),
        (socket.AF_INET6, "::", "127.0.0.1", True),
    ],
)
def test_a_port_is_told_without_a_connection(
    world: World, family: int, bound: str, asked: str, is_open: bool
) -> None:
    """By the kernel's table: nobody is at the other end afterwards, and a closed one is closed."""
    with socket.socket(family) as listening:
        try:
            listening.bind((bound, 0))
        except OSError:
            pytest.skip("this machine has no IPv6 loopback")
        listening.listen()
        listening.setblocking(False)
        port = listening.getsockname()[1]
        told = world.worker("port_check", port=port, host=asked)
        assert told["open"] is is_open
        if is_open:
            assert told["owner"] == f"uid {os.getuid()}"
        with pytest.raises(BlockingIOError):
            listening.accept()
    assert world.worker("port_check", port=port, host=asked) == {"open": False}


@pytest.mark.parametrize(
    "host", ["192.0.2.1", "example.org", "169.254.169.254", "0.0.0.0", "::", "2130706433", ""]
)
def test_ports_of_other_hosts_are_not_told(world: World, host: str) -> None:
    """Neither by a name nor by another form of an address."""
    assert "no loopback address" in world.worker.refusal("port_check", port=80, host=host)


def test_interfaces_have_their_addresses(world: World) -> None:
    """And no hardware address."""
    found = {each["name"]: each for each in world.worker("network_interfaces")["interfaces"]}
    assert "127.0.0.1" in found["lo"]["addresses"]
    assert set(found) == {path.name for path in Path("/sys/class/net").iterdir()}
    hardware = {Path(f"/sys/class/net/{name}/address").read_text().strip() for name in found} - {""}
    assert not [each for each in hardware - {"00:00:00:00:00:00"} if each in json.dumps(found)]


def test_an_address_goes_to_the_interface_of_its_narrowest_route(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bridge within a larger network has its own."""
    files = {
        "route": "Iface Destination\nwide 0000000A 0 1 0 0 0 000000FF\nbridge 0002000A 0 1 0 0 0 00FFFFFF",
        "fib_trie": "|-- 10.0.2.7\n  /32 host LOCAL\n|-- 10.9.0.7\n  /32 host LOCAL\n"
        "|-- 10.9.0.255\n /32 link BROADCAST",
    }
    monkeypatch.setattr(
        host_network, "_lines", lambda path: files.get(path.rpartition("/")[2], "").splitlines()
    )
    assert dict(host_network._addresses_4()) == {"bridge": "10.0.2.7", "wide": "10.9.0.7"}


def nvidia(tmp_path: Path, state: str | None) -> Any:
    """Return what the tool answers in a process with a driver's library, or without any."""
    environment = {**os.environ}
    if state is not None:
        (tmp_path / "state").write_text(state)
        environment |= {
            "LD_LIBRARY_PATH": str(fake_nvml(tmp_path)),
            "FAKE_NVML_STATE": str(tmp_path / "state"),
        }
    code = (
        "import asyncio, json, sys; from runners.tools import host_gpus, system\n"
        "host_gpus._has_nvidia = lambda: True\nprint(json.dumps(asyncio.run(system.gpu_info({}))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_a_card_without_its_library_is_refused_with_the_fix(tmp_path: Path) -> None:
    """No GPU at all is an empty list; that is the example of the tool where there is none."""
    assert "libnvidia-ml.so.1 is missing" in nvidia(tmp_path, None)["error"]


def test_nvidia_cards_are_read_by_their_library(tmp_path: Path) -> None:
    """Against a library of our own: memory, and an error in the driver's words."""
    state = "count 1\n0.total_mib 1000\n0.used_mib 300\n0.reserved_mib 0\n"
    (card,) = nvidia(tmp_path, state)["gpus"]
    assert (card["total"], card["used"]) == (1000 << 20, 300 << 20)
    assert "NVIDIA's driver says" in nvidia(tmp_path, "count 1\n0.error 15\n")["error"]
    assert "NVIDIA's driver says" in nvidia(tmp_path, "init_error 9\n")["error"]
