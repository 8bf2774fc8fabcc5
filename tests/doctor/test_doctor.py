"""The doctor: each thing well and unwell, on machines made up for it, and never a traceback."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from sick_server import SickServer

from epad.configuration.load import load
from epad.configuration.schema import DatastoreConfig, SubsystemConfig, UpstreamConfig
from epad.doctor import configured, disk, machine
from epad.doctor.examine import examine
from epad.doctor.finding import Check, Verdict, look
from epad.doctor.gpus import check_source
from probes.probe import ProbeError
from probes.vram import GpuSample


def verdicts(checks: Iterator[Check]) -> dict[str, Verdict]:
    return {check.name: check.verdict for check in checks}


def one(checks: Iterator[Check]) -> Check:
    (check,) = checks
    return check


def test_whatever_is_not_well_comes_with_a_fix() -> None:
    """On this very machine; what is absent needs none."""
    for check in examine(None, Path("/tmp/epad-doctor-state"), {"HOME": "/tmp"}, ""):
        assert check.found
        assert bool(check.fix) == (check.verdict in {Verdict.LACKING, Verdict.BROKEN}), check


def test_a_look_that_fails_is_an_answer() -> None:
    """A bug in one look must not hide the others."""

    def broken() -> Iterator[Check]:
        raise ZeroDivisionError("oops")

    assert look("x", broken)[0].verdict is Verdict.BROKEN


@pytest.mark.parametrize(
    ("made", "uid", "verdict"),
    [
        ((), 0, Verdict.ABSENT),
        (("systemd/system", "dbus/system_bus_socket"), 0, Verdict.OK),
        (("systemd/system",), 1000, Verdict.LACKING),
        (("systemd/system", "user/1000/systemd/private", "user/1000/bus"), 1000, Verdict.OK),
    ],
)
def test_systemd(tmp_path: Path, made: tuple[str, ...], uid: int, verdict: Verdict) -> None:
    """None, the machine's for root, a user's own only where it lingers."""
    for name in made:
        (tmp_path / name).mkdir(parents=True)
    assert one(machine.check_systemd({}, uid, tmp_path)).verdict is verdict


def test_pressure(tmp_path: Path) -> None:
    """A kernel without PSI, and one with it."""
    assert one(machine.check_pressure(tmp_path)).verdict is Verdict.LACKING
    (tmp_path / "pressure").mkdir()
    for name in ("cpu", "memory", "io"):
        (tmp_path / "pressure" / name).write_text("some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n")
    assert one(machine.check_pressure(tmp_path)).verdict is Verdict.OK


def test_no_cgroup_v2(tmp_path: Path) -> None:
    """A machine with version 1 only."""
    (tmp_path / "self").mkdir()
    (tmp_path / "self/mountinfo").write_text("30 23 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n")
    assert one(machine.check_cgroups(managed=True, proc=tmp_path)).verdict is Verdict.LACKING


def test_the_clock() -> None:
    """Kept, not kept, and a kernel that does not say."""

    def silent() -> int:
        raise PermissionError(1, "Operation not permitted")

    assert one(machine.check_clock(lambda: 0)).verdict is Verdict.OK
    assert one(machine.check_clock(lambda: machine.TIME_ERROR)).verdict is Verdict.LACKING
    assert one(machine.check_clock(silent)).verdict is Verdict.ABSENT


def test_too_few_files() -> None:
    """1024, as many a distribution has it."""
    assert verdicts(machine.check_process(lambda: (1024, 4096)))["open files"] is Verdict.LACKING
    assert verdicts(machine.check_process(lambda: (-1, -1)))["open files"] is Verdict.OK


def test_a_slow_disk_and_an_open_directory(tmp_path: Path) -> None:
    """Every turn waits for an fsync; keys are in the directory."""
    limits = load().probes.host
    tmp_path.chmod(0o700)
    well = verdicts(disk.check_state(tmp_path, limits, lambda _: [0.001] * 5))
    assert well["state"] is well["fsync"] is Verdict.OK
    tmp_path.chmod(0o755)
    unwell = verdicts(disk.check_state(tmp_path, limits, lambda _: [0.2] * 5))
    assert unwell["state"] is unwell["fsync"] is Verdict.LACKING
    assert len(disk.fsync_seconds(tmp_path)) == disk.FSYNCS
    assert list(tmp_path.iterdir()) == []


def test_upstreams_are_connected_to(tmp_path: Path) -> None:
    """One that listens, one whose port is closed, one whose socket is not there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = UpstreamConfig(url=f"http://127.0.0.1:{server.getsockname()[1]}", dialects=("openai",))
        gone = UpstreamConfig(url=f"unix:{tmp_path}/model.sock", dialects=("openai",))
        found = verdicts(configured.check_upstreams({"here": here, "gone": gone}))
    assert found == {"upstream here": Verdict.OK, "upstream gone": Verdict.BROKEN}
    closed = verdicts(configured.check_upstreams({"here": here}))
    assert closed["upstream here"] is Verdict.BROKEN


@pytest.mark.parametrize(("how", "verdict", "found"), [
    ("well", Verdict.OK, "takes connections"), ("404", Verdict.OK, "takes connections"),
    ("401", Verdict.BROKEN, "does not take epad's key (401"), ("403", Verdict.BROKEN, "does not take epad's key (403"),
    ("500", Verdict.LACKING, "answered 500"),
])  # fmt: skip
def test_upstreams_are_asked(how: str, verdict: Verdict, found: str) -> None:
    """A key that is refused is seen before any turn is; with the fix where it is set."""
    server = SickServer(how)
    try:
        upstream = UpstreamConfig(url=f"http://127.0.0.1:{server.port}/v1", dialects=("openai",))
        check = one(configured.check_upstreams({"vllm": upstream}))
    finally:
        server.close()
    assert check.verdict is verdict
    assert found in check.found
    assert (verdict is Verdict.BROKEN) is ("[upstreams.vllm] api_key_file" in check.fix)


def test_keys_are_read_and_never_shown(tmp_path: Path) -> None:
    """Missing, empty, open to everyone, well; the key itself is in no answer."""
    path = tmp_path / "key"
    upstream = UpstreamConfig(url="http://localhost", dialects=("openai",), api_key_file=str(path))
    seen = []
    for text, mode in ((None, 0), ("", 0o600), ("sk-secret", 0o644), ("sk-secret", 0o600)):
        if text is not None:
            path.write_text(text)
            path.chmod(mode)
        seen.append(one(configured.check_keys({"u": upstream}, {})))
    assert [check.verdict for check in seen] == [
        Verdict.BROKEN,
        Verdict.BROKEN,
        Verdict.LACKING,
        Verdict.OK,
    ]
    assert not any("secret" in check.found + check.fix for check in seen)


def test_programs_that_are_not_there() -> None:
    """By name on the path, or as a file."""
    here, gone = SubsystemConfig(command=("sh",)), SubsystemConfig(command=("/nowhere/agent",))
    found = verdicts(configured.check_programs({"here": here, "gone": gone}))
    assert found == {"program of here": Verdict.OK, "program of gone": Verdict.BROKEN}


def test_datastores(tmp_path: Path) -> None:
    """Only those that may be restored are asked about; a restore renames files in their directory."""
    stores = {
        "here": DatastoreConfig(str(tmp_path / "memory.db"), restore=True),
        "gone": DatastoreConfig("/proc/none/memory.db", restore=True),
        "told": DatastoreConfig("/proc/none/other.db"),
    }
    found = verdicts(configured.check_datastores(stores))
    assert found == {"datastore here": Verdict.OK, "datastore gone": Verdict.LACKING}


class ToyGpus:
    """A driver that answers as told."""

    def __init__(self, answer: GpuSample | ProbeError) -> None:
        self.answer = answer
        self.absence = "no driver"
        self.closed = False

    async def read(self) -> GpuSample:
        if isinstance(self.answer, ProbeError):
            raise self.answer
        return self.answer

    async def close(self) -> None:
        self.closed = True


def test_gpus_that_are_absent_or_do_not_answer() -> None:
    """No driver is no fault; one that hangs is. Its child is ended either way."""
    absent, hung = ToyGpus(GpuSample()), ToyGpus(ProbeError("no answer within 3 s"))
    assert check_source("nvidia", absent, "fix").verdict is Verdict.ABSENT
    assert check_source("nvidia", hung, "fix").verdict is Verdict.BROKEN
    assert absent.closed
    assert hung.closed


def test_a_broken_configuration_is_told_with_its_place(tmp_path: Path) -> None:
    """And the rest is looked at all the same."""
    file = tmp_path / "epad.toml"
    file.write_text("[gateway]\nlisten = 5\n")
    checks = list(examine(file, tmp_path, dict(os.environ), ""))
    broken = [check for check in checks if check.name == "configuration"]
    assert f"{file}:2" in broken[0].found
    assert any(check.name == "fsync" for check in checks)
