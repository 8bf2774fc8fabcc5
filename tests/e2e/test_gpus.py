"""GPUs through the installed daemon: NVIDIA's by a library of our own, AMD's by files. No real GPU is used."""

from __future__ import annotations

import re
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_gpus import FakeAmd, fake_nvml
from installed import QUICK, Installation, installation
from patience import PATIENCE_SECONDS

MIB = 1 << 20

CONFIG = (
    QUICK
    + f"""
[probes.vram]
interval_seconds = 0.3
timeout_seconds = 1.0
growth_window_seconds = 60.0
root = "ROOT"
[containment]
vram = "block"
[hysteresis.vram]
raise_after = 2
out_of = 3
clear_after_seconds = 1.0
flap_window_seconds = 60.0
flap_hold_max_seconds = 1.0
[subsystems.trainer]
command = ["{sys.executable}", "-c", "import time; time.sleep(3600)"]
[subsystems.server]
command = ["{sys.executable}", "-c", "import subprocess as s, time; s.run(['sleep', '3600'])"]
"""
)


class Machine:
    """An installation on a machine whose GPUs are what the test says."""

    def __init__(self, house: Installation, nvml_state: Path, amd: FakeAmd) -> None:
        self.house = house
        self.amd = amd
        self._nvml_state = nvml_state

    def nvidia(self, text: str) -> None:
        """Replace the file at once: the library may be reading it."""
        new = self._nvml_state.with_suffix(".new")
        new.write_text(text)
        new.replace(self._nvml_state)

    def pid(self, name: str) -> int:
        return int(self.house.subsystem(name)["pid"])

    def gpu(self, name: str) -> dict[str, Any] | None:
        return next((gpu for gpu in self.house.status()["gpus"] if gpu["gpu"] == name), None)

    def grandchild(self, child: int) -> int:
        """The process that the server starts, once it has."""

        def found() -> list[int]:
            return [p for p, name in self.house.children().items() if name == "server" and p != child]

        self.house.wait(lambda: bool(found()), "the server's own child")
        return found()[0]

    def wait_gpu(self, name: str, **wanted: object) -> dict[str, Any]:
        """Wait until a GPU's status has these values."""

        def holds() -> bool:
            gpu = self.gpu(name)
            return gpu is not None and all(gpu[key] == value for key, value in wanted.items())

        self.house.wait(holds, f"GPU {name} with {wanted}")
        gpu = self.gpu(name)
        assert gpu is not None
        return gpu

    def anomaly(self, subsystem: str) -> dict[str, Any]:
        """Wait for an anomaly of VRAM."""

        def found() -> list[dict[str, Any]]:
            return [a for a in self.house.status()["anomalies"] if a["id"] == f"vram/{subsystem}"]

        self.house.wait(lambda: bool(found()), f"vram/{subsystem}")
        events = [
            e
            for e in self.house.events("anomaly.raised")
            if e["subsystem"] == subsystem and e["fields"]["probe"] == "vram"
        ]
        fields: dict[str, Any] = events[-1]["fields"]
        return fields

    def series(self) -> dict[str, float]:
        """Every sample of /metrics that speaks of a GPU."""
        with urllib.request.urlopen(
            self.house.status()["metrics"]["url"], timeout=PATIENCE_SECONDS
        ) as answer:
            text = answer.read().decode()
        found = re.findall(
            r"^(epad_(?:gpu|probe_success|state_filesystem|loop)\S*) (\S+)$", text, re.MULTILINE
        )
        return {name: float(value) for name, value in found}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_nvml(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def machine(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    state = tmp_path / "nvml"
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library))
    monkeypatch.setenv("FAKE_NVML_STATE", str(state))
    root = tmp_path / "root"
    root.mkdir()
    # The daemon knows its own children by the real /proc; only /sys is made up.
    (root / "proc").symlink_to("/proc")
    with installation(CONFIG.replace("ROOT", str(root))) as house:
        one = Machine(house, state, FakeAmd(root))
        one.nvidia("")
        yield one


def test_a_leak_is_blamed_on_the_subsystem_that_gained(machine: Machine) -> None:
    """A grandchild's memory is its subsystem's; the one that leaks is named and shut out, the other runs on."""
    machine.house.start()
    server, trainer = machine.pid("server"), machine.pid("trainer")
    grandchild = machine.grandchild(server)
    table = "0.process {} 3000\n0.process {} {}\n0.used_mib {}\n"
    machine.nvidia(table.format(grandchild, trainer, 500, 3_500))
    machine.wait_gpu("0", subsystems={"server": 3_000 * MIB, "trainer": 500 * MIB}, unattributed_bytes=0)
    machine.nvidia(table.format(grandchild, trainer, 8_700, 11_700))
    fields = machine.anomaly("trainer")
    assert re.search(
        r"trainer gained 8[27]00 MiB", fields["reason"]
    )  # from its first reading, or from nothing
    assert fields["evidence"]["subsystems"] == {"server": 3_000 * MIB, "trainer": 8_700 * MIB}
    machine.house.wait(lambda: machine.house.subsystem("trainer")["hold"]["rung"] == "block", "the hold")
    assert machine.house.subsystem("server")["hold"]["rung"] == "open"
    assert "trainer 8700 MiB" in machine.house.ctl("status").stdout
    series = machine.series()
    assert series['epad_gpu_subsystem_memory_bytes{gpu="0",subsystem="trainer"}'] == 8_700 * MIB
    assert series['epad_gpu_memory_used_bytes{gpu="0"}'] == 11_700 * MIB
    assert series['epad_gpu_memory_reserved_bytes{gpu="0"}'] == 400 * MIB
    machine.nvidia(table.format(grandchild, trainer, 500, 3_500))
    machine.house.wait_phase("NORMAL")


def test_ghost_memory_is_shown_and_holds_nobody(machine: Machine) -> None:
    """6 GiB that no process owns to: a series, a line, no anomaly while there is room."""
    machine.nvidia("0.used_mib 6144\n")
    machine.house.start()
    machine.wait_gpu("0", unattributed_bytes=6_144 * MIB)
    assert machine.series()['epad_gpu_unattributed_memory_bytes{gpu="0"}'] == 6_144 * MIB
    assert "nobody's 6144 MiB" in machine.house.ctl("status").stdout
    machine.nvidia("0.used_mib 11800\n")
    machine.wait_gpu("0", unattributed_bytes=11_800 * MIB)
    status = machine.house.status()
    assert (status["phase"], status["anomalies"]) == ("NORMAL", [])
    assert {s["hold"]["rung"] for s in status["subsystems"]} == {"open"}


def test_a_lost_gpu_is_critical_and_its_xid_is_kept(machine: Machine) -> None:
    """One of two: the other's figures stay fresh."""
    machine.nvidia("count 2\n")
    machine.house.start()
    machine.wait_gpu("1", fresh=True)
    machine.nvidia("count 2\n1.error 15\n1.xid 79\nxid_serial 1\n")
    assert "GPU 1" in machine.anomaly("host")["reason"]
    machine.wait_gpu("1", fresh=False)
    gpu = machine.wait_gpu("0", fresh=True)
    assert gpu["age_seconds"] < 30
    assert list(machine.wait_gpu("1")["xids"]) == ["79"]
    series = machine.series()
    assert 'epad_gpu_memory_used_bytes{gpu="1"}' not in series
    assert series['epad_gpu_memory_used_bytes{gpu="0"}'] == 800 * MIB
    assert series['epad_gpu_xid_last_timestamp_seconds{gpu="1",xid="79"}'] > 1e9


def test_a_hung_driver_harms_nothing_but_its_own_series(machine: Machine) -> None:
    """The AMD card beside it is read on, orders are answered, and the figures come back with the driver."""
    machine.amd.card(1, used=3 << 30)
    machine.house.start()
    machine.wait_gpu("0", fresh=True)
    machine.wait_gpu("card1", fresh=True, used_bytes=3 << 30)
    machine.nvidia("hang_seconds 600\n")
    machine.wait_gpu("0", fresh=False)
    machine.amd.uses(4 << 30)
    machine.wait_gpu("card1", fresh=True, used_bytes=4 << 30)
    used = 'epad_gpu_memory_used_bytes{gpu="card1"}'
    # Its figures are in /metrics as long as they are fresh, which on a busy machine they are not all the time.
    machine.house.wait(lambda: machine.series().get(used) == 4 << 30, "the AMD card's own figures")
    series = machine.series()
    assert 'epad_gpu_memory_used_bytes{gpu="0"}' not in series
    assert series['epad_probe_success{probe="vram"}'] == 0
    assert series['epad_probe_success{probe="host"}'] == 1
    assert series["epad_state_filesystem_free_bytes"] > 0
    status = machine.house.status()
    assert (status["phase"], status["anomalies"]) == ("NORMAL", [])
    assert "not readable" in machine.house.ctl("status").stdout
    machine.nvidia("0.used_mib 900\n")
    machine.wait_gpu("0", fresh=True, used_bytes=900 * MIB)


def test_a_garbled_process_table_leaves_the_cards_own_figures(machine: Machine) -> None:
    """Pid and size swapped (nvitop#79): nobody is blamed by it, and unknown is not nobody's."""
    machine.nvidia(f"0.used_mib 11800\n0.process 1234 512\n0.raw_process {512 * MIB} 1234\n")
    machine.house.start()
    gpu = machine.wait_gpu("0", used_bytes=11_800 * MIB, subsystems={})
    assert gpu["unattributed_bytes"] is None
    assert 'epad_gpu_unattributed_memory_bytes{gpu="0"}' not in machine.series()
    assert machine.house.status()["anomalies"] == []


def test_a_rocm_process_of_a_subsystem_fills_an_amd_card(machine: Machine) -> None:
    """By KFD's figures, which name it by its pid."""
    machine.nvidia("init_error 9\n")
    machine.amd.card(1, used=1 << 30)
    machine.house.start()
    trainer = machine.pid("trainer")
    machine.amd.kfd(trainer, 1 << 30)
    machine.wait_gpu("card1", subsystems={"trainer": 1 << 30})
    machine.amd.kfd(trainer, 24 << 30)
    machine.amd.uses(24 << 30)
    assert "trainer gained" in machine.anomaly("trainer")["reason"]
    assert "GPU card1 AMD 0x744c" in machine.house.ctl("status").stdout
    assert not [notice for notice in machine.house.status()["notices"] if "VRAM" in notice]
