"""Tools of docker against an engine that runs nothing; test_engine.py has a real one, whose form its answers have."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fake_engine import KEY, FakeEngine, frame, marks
from tool_process import SECRET, World, tool_worker

from runners.tools import engine as engine_module
from runners.tools import engine_fields

RUN = {"image": "epad-test:latest", "argv": ["/hello", "hi"]}


def test_containers_and_images_are_listed(world: World) -> None:
    """Without command lines."""
    listed = world.worker("docker_ps", all=True)["containers"]
    assert [(each["names"], each["state"]) for each in listed] == [
        (["web"], "running"),
        (["ours"], "running"),
    ]
    assert world.worker("docker_images")["images"][0]["tags"] == ["docker.io/library/epad-test:latest"]
    assert world.worker("docker_stats", container="web")["memory_limit"] > 0


def test_output_is_taken_out_of_its_frames_and_bounded(world: World, engine: FakeEngine) -> None:
    """Of both streams; a flood is cut, and told."""
    assert world.worker("docker_logs", container="web")["lines"] == ["out of serve", "an error"]
    engine.add("flood", {"Cmd": ["/hello", "flood"]})
    flooded = world.worker("docker_logs", container="flood", tail=2000)
    assert flooded["truncated"]
    assert len(str(flooded)) < 80_000
    assert engine.asked[-1][2]["tail"] == "2000"


def test_an_environment_is_masked(world: World) -> None:
    """By its names; a key anywhere else, too."""
    told = world.worker("docker_inspect", container="web")["object"]
    assert told["Config"]["Env"] == ["PATH=***", "TOKEN=***"]
    assert KEY not in str(told)
    assert len(told["Id"]) == 64
    assert world.worker("docker_inspect", image="epad-test:latest")["object"]["Architecture"] == "amd64"
    assert "either" in world.worker.refusal("docker_inspect", container="web", image="x")


def test_a_container_is_run_confined_marked_and_removed(world: World, engine: FakeEngine) -> None:
    """These fields, and none beside them."""
    before = engine.names
    answer = world.worker.answer("docker_run", {**RUN, "memory": 64, "cpus": 0.5}, turn="turn-7")
    assert answer["result"] | {"container": ""} == {
        "container": "", "stdout": "out of hi\n", "stderr": "an error\n", "truncated": False, "exit": 0,
    }  # fmt: skip
    body = next(body for method, path, _, body in engine.asked if path == "/containers/create")
    labels = body.pop("Labels")
    assert (labels["epad.turn"], labels["epad.subsystem"]) == ("turn-7", "agent")
    assert time.time() + 60 <= int(labels["epad.ends"]) <= time.time() + 180
    assert body == {
        "Image": "epad-test:latest", "Cmd": ["/hello", "hi"], "WorkingDir": "", "NetworkDisabled": True,
        "OpenStdin": False, "Tty": False,
        "HostConfig": {
            "Memory": 64 << 20, "MemorySwap": 64 << 20, "NanoCpus": 500_000_000, "PidsLimit": 256, "Mounts": [],
            "NetworkMode": "none", "IpcMode": "private", "Privileged": False, "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "Ulimits": [
                {"Name": "nofile", "Soft": 1024, "Hard": 4096}, {"Name": "nproc", "Soft": 32768, "Hard": 32768},
            ],
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "8m", "max-file": "1"}},
        },
    }  # fmt: skip
    assert engine.names == before
    assert world.worker("docker_run", image="epad-test", argv=["/hello", "fail"])["exit"] == 7
    assert "exit" not in world.worker("docker_run", image="epad-test", argv=["/hello", "sleep"], timeout=0.1)
    assert engine.names == before


def test_the_workspace_is_mounted_whole_and_to_be_read(world: World, engine: FakeEngine) -> None:
    """Not a directory below, which could be swapped for a link; and not where there are keys in it."""
    world.worker("docker_run", **RUN, workspace=True)
    body = next(body for _, path, _, body in engine.asked if path == "/containers/create")
    assert body["HostConfig"]["Mounts"] == [
        {"Type": "bind", "Source": str(world.root), "Target": "/workspace", "ReadOnly": True}
    ]
    (world.root / "docs" / ".ssh").mkdir()
    (world.root / "docs" / ".ssh" / "id").write_text(SECRET)
    assert "keys could be read" in world.worker.refusal("docker_run", **RUN, workspace=True)


def test_orphans_are_removed_and_others_kept(world: World, engine: FakeEngine) -> None:
    """Those of this agent whose time is over, at the next call; a container of a killed call is one."""
    engine.add("over", {"Cmd": ["x"], "Labels": marks("agent", int(time.time()) - 1)})
    engine.add("of another", {"Cmd": ["x"], "Labels": marks("other", 1)})
    engine.add("without a time", {"Cmd": ["x"], "Labels": {"epad.subsystem": "agent", "epad.ends": "soon"}})
    killed = world.worker.answer("docker_run", {"image": "a", "argv": ["/hello", "sleep"]}, timeout=1)
    assert killed["ended"] == "timeout"
    (orphan,) = [one for one in engine.containers.values() if one.name.startswith("made-")]
    assert killed["effects"] == [[f"container {orphan.id[:12]}", None, None]]
    orphan.order["Labels"]["epad.ends"] = "1"
    world.worker("docker_ps")
    assert engine.names == {"web", "ours", "of another", "without a time"}


def test_only_own_containers_are_entered_and_stopped(world: World, engine: FakeEngine) -> None:
    """Another may have the network, and the host's files."""
    for tool, arguments in (("docker_exec", {"argv": ["/hello", "there"]}), ("docker_stop", {})):
        assert "was not started by a tool" in world.worker.refusal(tool, container="web", **arguments)
    ran = world.worker("docker_exec", container="ours", argv=["/hello", "there"])
    assert ran == {"exit": 0, "stdout": "out of there\n", "stderr": "an error\n", "truncated": False}
    body = next(body for _, path, _, body in engine.asked if path.endswith("/exec"))
    assert body == {
        "Cmd": ["/hello", "there"], "AttachStdout": True, "AttachStderr": True, "AttachStdin": False, "Tty": False,
        "Privileged": False,
    }  # fmt: skip
    kept = world.worker("docker_run", image="epad-test", argv=["/hello", "sleep"], detach=True)["container"]
    assert world.worker("docker_exec", container=kept, argv=["/hello", "there"])["exit"] == 0
    assert world.worker("docker_stop", container=kept) == {"stopped": True}
    assert world.worker("docker_stop", container="ours") == {"stopped": True}
    assert engine.names == {"web"}


@pytest.mark.parametrize(
    "name",
    ["", "../images/x", "web/../web", "web?force=1", "web%2fjson", "-v", "web\r\nHost: x", "a" * 200, "a b"],
)
def test_a_name_is_no_path(world: World, engine: FakeEngine, name: str) -> None:
    """Nothing of the engine but the one container is asked for."""
    for tool in ("docker_logs", "docker_stats", "docker_inspect", "docker_stop"):
        assert "no container's name" in world.worker.refusal(tool, container=name)
    assert {path for _, path, _, _ in engine.asked} <= {"/containers/json"}
    assert "no image's name" in world.worker.refusal("docker_run", image="../x", argv=["x"])


# Fields of the Engine API's schema (ContainerConfig, HostConfig, NetworkingConfig, ExecConfig), and of a call of ours.
REFUSED_FIELDS = (
    *(
        "Hostname",
        "Domainname",
        "User",
        "AttachStdin",
        "AttachStdout",
        "AttachStderr",
        "ExposedPorts",
        "StdinOnce",
    ),
    *("Env", "Healthcheck", "ArgsEscaped", "Volumes", "Entrypoint", "MacAddress", "OnBuild", "StopSignal"),
    *("StopTimeout", "Shell", "NetworkingConfig", "Name", "Platform"),
)
REFUSED_HOST_FIELDS = (
    *(
        "Binds",
        "ContainerIDFile",
        "PortBindings",
        "RestartPolicy",
        "AutoRemove",
        "VolumeDriver",
        "VolumesFrom",
    ),
    *(
        "CapAdd",
        "CgroupnsMode",
        "Dns",
        "DnsOptions",
        "DnsSearch",
        "ExtraHosts",
        "GroupAdd",
        "Cgroup",
        "Links",
    ),
    *("OomScoreAdj", "PidMode", "PublishAllPorts", "ReadonlyRootfs", "StorageOpt", "Tmpfs", "UTSMode"),
    *(
        "UsernsMode",
        "ShmSize",
        "Sysctls",
        "Runtime",
        "ConsoleSize",
        "Isolation",
        "MaskedPaths",
        "ReadonlyPaths",
    ),
    *("CpuShares", "CgroupParent", "BlkioWeight", "BlkioWeightDevice", "BlkioDeviceReadBps", "CpuPeriod"),
    *("BlkioDeviceWriteBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteIOps", "CpuQuota", "CpuRealtimePeriod"),
    *("CpuRealtimeRuntime", "CpusetCpus", "CpusetMems", "Devices", "DeviceCgroupRules", "DeviceRequests"),
    *("KernelMemory", "KernelMemoryTCP", "MemoryReservation", "MemorySwappiness", "OomKillDisable", "Init"),
    *("CpuCount", "CpuPercent", "IOMaximumIOps", "IOMaximumBandwidth", "Annotations"),
)
VALUES: tuple[Any, ...] = (True, 1, "host", ["/:/host"], {"a": "b"}, None)


def order() -> dict[str, Any]:
    confined = engine_fields.host_config(64, 1, "/work")
    made = engine_fields.Create(
        image="a", cmd=["x"], labels={}, host_config=confined, working_dir="/workspace"
    )
    return dict(msgspec.to_builtins(made))


def is_taken(body: dict[str, Any]) -> bool:
    try:
        msgspec.convert(body, engine_fields.Create)
    except msgspec.ValidationError:
        return False
    return True


def test_every_field_outside_the_list_is_refused(world: World) -> None:
    """In what is sent, and in what is asked for; control: the order itself is taken."""
    assert is_taken(order())
    for value in VALUES:
        assert not [name for name in REFUSED_FIELDS if is_taken({**order(), name: value})]
        host = order()["HostConfig"]
        assert not [
            name for name in REFUSED_HOST_FIELDS if is_taken({**order(), "HostConfig": {**host, name: value}})
        ]
    for name in (
        *REFUSED_FIELDS,
        *REFUSED_HOST_FIELDS,
        "network",
        "privileged",
        "mounts",
        "env",
        "user",
        "devices",
    ):
        assert "wrong arguments" in world.worker.refusal("docker_run", **RUN, **{name: "x"})


HOST_VALUES = [
    ("NetworkMode", ["host", "bridge", "container:web", "", "NONE", "default"]),
    ("Privileged", [True, 1, "false", None]),
    ("IpcMode", ["host", "shareable", "container:web", ""]),
    ("CapDrop", [[], ["all"], ["CHOWN"], None]),
    ("SecurityOpt", [[], ["seccomp=unconfined"], ["no-new-privileges", "apparmor=unconfined"]]),
    ("PidsLimit", [0, -1, 100_000]),
    ("Memory", [0, -1, 1 << 40]),
    ("MemorySwap", [-1, 0, 1 << 40]),
    ("NanoCpus", [0, -1, 64_000_000_000]),
    ("LogConfig", [{"Type": "syslog"}, {"Type": "json-file", "Config": {}, "x": 1}]),
    ("Ulimits", [[], [{"Name": "core", "Soft": -1, "Hard": -1}]]),
    (
        "Mounts",
        [
            [{"Type": "bind", "Source": "/work", "Target": "/workspace", "ReadOnly": False}],
            [{"Type": "bind", "Source": "/work", "Target": "/etc", "ReadOnly": True}],
            [{"Type": "volume", "Source": "/work", "Target": "/workspace", "ReadOnly": True}],
            [{"Type": "bind", "Source": "work", "Target": "/workspace", "ReadOnly": True}],
            [
                {
                    "Type": "bind",
                    "Source": "/",
                    "Target": "/workspace",
                    "BindOptions": {"Propagation": "shared"},
                }
            ],
        ],
    ),
]


@pytest.mark.parametrize(("name", "values"), HOST_VALUES, ids=[name for name, _ in HOST_VALUES])
def test_every_unsafe_value_is_refused(name: str, values: list[Any]) -> None:
    """Of the fields that are on the list."""
    host = order()["HostConfig"]
    assert not [value for value in values if is_taken({**order(), "HostConfig": {**host, name: value}})]


@pytest.mark.parametrize(
    "arguments", [{"memory": 1 << 20}, {"memory": 0}, {"cpus": 0}, {"cpus": 64}, {"timeout": 0}, {"argv": []}]
)
def test_bounds_of_a_run_are_held(world: World, arguments: dict[str, Any]) -> None:
    """By the arguments' own types."""
    assert "wrong arguments" in world.worker.refusal("docker_run", **{**RUN, **arguments})


@contextmanager
def listening(path: Path, answer: bytes) -> Iterator[None]:
    """Answer one connection with these bytes, or leave it without an answer."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        server.settimeout(60)

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


ANSWERS = [
    (b"SSH-2.0-OpenSSH\r\n", "cannot be asked"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK", "no container engine"),
    (b"HTTP/1.1 200 OK\r\nApi-Version: x.y\r\nContent-Length: 2\r\n\r\nOK", "no container engine"),
    (b"HTTP/1.1 500 No\r\nApi-Version: 1.41\r\nContent-Length: 0\r\n\r\n", "no container engine"),
    (b"", "cannot be asked"),
]


@pytest.mark.parametrize(("answer", "said"), ANSWERS, ids=range(len(ANSWERS)))
def test_what_is_no_engine_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes, said: str
) -> None:
    """In words, whatever listens there."""
    path = tmp_path / "s"
    monkeypatch.setenv("EPAD_ENGINE_SOCKET", str(path))
    with tool_worker("docker", tmp_path) as worker, listening(path, answer):
        assert said in worker.refusal("docker_ps")


def test_a_socket_that_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And none at all, with the setting."""
    monkeypatch.setenv("EPAD_ENGINE_SOCKET", str(tmp_path / "nothing"))
    with tool_worker("docker", tmp_path) as worker:
        assert "cannot be asked" in worker.refusal("docker_ps")
    monkeypatch.delenv("EPAD_ENGINE_SOCKET")
    with tool_worker("docker", tmp_path) as worker:
        assert "[tools.docker] socket" in worker.refusal("docker_ps")


def test_a_broken_answer_is_told(world: World, engine: FakeEngine) -> None:
    """No JSON, and one that is too large."""
    engine.answer = b"<html>"
    assert "no JSON" in world.worker.refusal("docker_ps")
    engine.answer = b"[" + b" " * (17 << 20) + b"]"
    assert "has over" in world.worker.refusal("docker_ps")


@pytest.mark.parametrize(
    ("data", "stdout", "stderr"),
    [
        (b"", "", ""),
        (frame(1, "a") + frame(2, "b") + frame(1, "c"), "ac", "b"),
        (frame(1, "ab")[:-1], "a", ""),
        (frame(1, "ab")[:5], "", ""),
        (frame(1, "a") + b"\x09broken frame", "a", ""),
        (b"plain text of a terminal\n", "plain text of a terminal\n", ""),
        (frame(0, "in"), "in", ""),
        (b"\x01\0\0\0\xff\xff\xff\xffshort", "short", ""),
        (frame(1, "").replace(b"\0\0\0\0", b"\0\0\0\x01", 1) + b"\xff", "�", ""),
    ],
    ids=range(9),
)
def test_frames_are_taken_apart(data: bytes, stdout: str, stderr: str) -> None:
    """Whole, cut, broken, and none at all, as a terminal's output has."""
    found = engine_module.read_frames(data)
    assert (found.stdout, found.stderr) == (stdout, stderr)
