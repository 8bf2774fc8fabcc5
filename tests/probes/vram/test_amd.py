"""AMD's files, as the kernel writes them and as it should not."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fake_gpus import FakeAmd
from shipped_settings import PROBES

from probes.probe import ProbeError
from probes.vram import GpuProcess
from probes.vram.amd import AmdGpus, cards
from probes.vram.amd_worker import processes, read
from probes.vram.probe import Vram
from probes.vram.prober import DriverProber, worker
from probes.vram.source import ABSENT_RETRY_SECONDS
from statemachine.clock import ManualClock
from statemachine.finding import HOST, Severity

ADDRESS = "0000:03:00.0"


@pytest.fixture
def amd(tmp_path: Path) -> FakeAmd:
    return FakeAmd(tmp_path)


def test_cards_of_other_vendors_and_connectors_are_none_of_ours(amd: FakeAmd) -> None:
    """NVIDIA's open module has a DRM card too."""
    amd.card(0, "0000:01:00.0", vendor="0x10de")
    amd.card(1)
    assert [card.name for card in cards(amd.root)] == ["card1"]


def test_a_card_has_the_kernels_figures(amd: FakeAmd) -> None:
    """Its name is DRM's, its identity the PCI address where it has no number of its own."""
    amd.card(1, used=20 << 30)
    amd.kfd(13, 16 << 30)
    assert read(amd.root) == {
        "gpus": [
            {
                "gpu": "card1",
                "uuid": ADDRESS,
                "name": "AMD 0x744c",
                "total_bytes": 24 << 30,
                "used_bytes": 20 << 30,
                "reserved_bytes": 0,
                "processes": [[13, 16 << 30]],
            }
        ]
    }


def test_a_client_is_counted_once(amd: FakeAmd) -> None:
    """Duplicated descriptors and a forked child share one client; resident counts, not what is shared."""
    for pid, descriptor in ((10, 5), (10, 6), (11, 7)):
        amd.client(pid, descriptor, 1, kibibytes=1 << 20)
    amd.client(12, 5, 2, kibibytes=512, key="memory")
    assert processes(amd.root) == {(ADDRESS, 10): 1 << 30, (ADDRESS, 12): 512 << 10}


def test_rocm_is_in_kfd_and_the_larger_figure_counts(amd: FakeAmd) -> None:
    """A process may show in both."""
    amd.client(13, 5, 1, kibibytes=1 << 10)
    amd.kfd(13, 16 << 30)
    amd.client(14, 5, 2, kibibytes=8 << 20)
    amd.kfd(14, 1 << 30)
    assert processes(amd.root) == {(ADDRESS, 13): 16 << 30, (ADDRESS, 14): 8 << 30}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "garbage",
        "drm-driver:\tamdgpu\n",
        "drm-driver: amdgpu\ndrm-pdev: x\ndrm-client-id: 1\ndrm-memory-vram: ?\n",
    ],
)
def test_a_hostile_fdinfo_is_nobodys(amd: FakeAmd, text: str) -> None:
    """One line that is no size discredits that client alone."""
    amd.client(10, 5, 1, kibibytes=7)
    amd.client(11, 5, 2, kibibytes=9)
    amd.write("proc/10/fdinfo/5", text)
    assert processes(amd.root) == {(ADDRESS, 11): 9 << 10}


def test_a_process_that_is_gone_or_closed_to_us_is_passed_over(amd: FakeAmd) -> None:
    """Its descriptors are not there any more between two looks."""
    amd.client(10, 5, 1, kibibytes=7)
    (amd.root / "proc/10/fdinfo/5").unlink()
    (amd.root / "proc/11").mkdir()
    amd.write("proc/uptime", "1 1\n")
    assert processes(amd.root) == {}


@pytest.mark.parametrize("text", ["", "unknown\n", "-1\n"])
def test_a_card_in_reset_is_a_failure_not_an_empty_card(amd: FakeAmd, text: str) -> None:
    """EBUSY, EIO, or no number."""
    amd.card(1)
    amd.write(f"sys/devices/pci0000:00/{ADDRESS}/mem_info_vram_used", text)
    (row,) = read(amd.root)["gpus"]
    assert row["gpu"] == "card1"
    assert ADDRESS in row["message"]


def test_an_impossible_process_discredits_the_table(amd: FakeAmd) -> None:
    """More than the card has: the card's own figures stand."""
    amd.card(1, total=1 << 30, used=1 << 20)
    amd.kfd(13, 16 << 30)
    (row,) = read(amd.root)["gpus"]
    assert row["processes"] is None
    assert row["used_bytes"] == 1 << 20


# A carve-out beside its GTT.

MIB, GIB = 1 << 20, 1 << 30


def gtt(amd: FakeAmd, total: object, used: object, address: str = ADDRESS) -> None:
    """What the GPU may have of the system's memory."""
    amd.write(f"sys/devices/pci0000:00/{address}/mem_info_gtt_total", f"{total}\n")
    amd.write(f"sys/devices/pci0000:00/{address}/mem_info_gtt_used", f"{used}\n")


def has(amd: FakeAmd, *names: str) -> None:
    """Files that the kernel makes for some GPUs and not for others."""
    for name in names:
        amd.write(f"sys/devices/pci0000:00/{ADDRESS}/{name}", "0\n")


@pytest.mark.parametrize(
    ("vram", "gtt_total", "files", "is_shared"),
    [
        (512 * MIB, 124 * GIB, (), True),
        (512 * MIB, 7 * GIB, (), True),  # a laptop of 16 GB
        (1 * GIB, 7 * GIB, (), True),  # a handheld of 16 GB
        (2 * GIB, 100 * GIB, (), True),
        (4 * GIB, 60 * GIB, (), True),
        (8 * GIB, 60 * GIB, ("gpu_busy_percent",), True),  # it says itself that it is none of the cards
        (2 * GIB, 7 * GIB, ("gpu_busy_percent",), True),
        (96 * GIB, 16 * GIB, ("gpu_busy_percent",), False),  # models live in the carve-out
        (96 * GIB, 16 * GIB, (), False),
        (24 * GIB, 16 * GIB, (), False),
        (24 * GIB, 0, (), False),
        (8 * GIB, 64 * GIB, (), False),
        (4 * GIB, 16 * GIB, (), False),
        (2 * GIB, 64 * GIB, ("gpu_busy_percent", "mem_busy_percent"), False),  # an old small card
        (2 * GIB, 64 * GIB, ("gpu_busy_percent", "pcie_bw"), False),
        (128 * GIB, 256 * GIB, ("gpu_busy_percent", "mem_busy_percent"), False),
    ],
)
def test_vram_and_gtt_count_together_where_the_vram_is_a_carve_out(
    amd: FakeAmd, vram: int, gtt_total: int, files: tuple[str, ...], is_shared: bool
) -> None:
    """By what the kernel makes for cards alone, else by size."""
    amd.card(total=vram, used=vram - MIB)
    gtt(amd, gtt_total, 3 * MIB)
    has(amd, *files)
    (row,) = read(amd.root)["gpus"]
    expected = (vram + gtt_total, vram + 2 * MIB) if is_shared else (vram, vram - MIB)
    assert (row["total_bytes"], row["used_bytes"]) == expected
    assert ("together" in row["name"]) == is_shared


def test_what_a_process_has_of_the_gtt_is_its_own_there(amd: FakeAmd) -> None:
    """And only there: a card's GTT is what did not fit into it."""
    amd.card(1, total=512 * MIB, used=500 * MIB)
    gtt(amd, 120 * GIB, 100 * GIB)
    amd.card(2, "0000:04:00.0", total=24 * GIB, used=GIB)
    gtt(amd, 16 * GIB, 5 * GIB, "0000:04:00.0")
    for pid, address in ((10, ADDRESS), (11, "0000:04:00.0")):
        amd.client(pid, 5, pid, kibibytes=1 << 10, address=address)
        fdinfo = (amd.root / f"proc/{pid}/fdinfo/5").read_text()
        amd.write(f"proc/{pid}/fdinfo/5", fdinfo.replace("8 KiB", f"{50 << 20} KiB"))
    apu, card = read(amd.root)["gpus"]
    assert apu["processes"] == [[10, 50 * GIB + MIB]]
    assert card["processes"] == [[11, MIB]]
    assert (apu["total_bytes"], card["total_bytes"]) == (120 * GIB + 512 * MIB, 24 * GIB)


@pytest.mark.parametrize(("vram", "is_judged"), [(512 * MIB, False), (2 * GIB, True), (24 * GIB, True)])
def test_without_its_gtt_a_tiny_vram_cannot_be_judged(amd: FakeAmd, vram: int, is_judged: bool) -> None:
    """A card of that size is no place for a model, and a carve-out of that size is always full."""
    amd.card(total=vram, used=vram - MIB)
    (row,) = read(amd.root)["gpus"]
    assert ("message" not in row) == is_judged


@pytest.mark.parametrize(("vram", "is_judged"), [(2 * GIB, False), (24 * GIB, True)])
@pytest.mark.parametrize("text", ["", "unknown", "-1"])
def test_a_gtt_that_cannot_be_read_does_not_make_a_carve_out_full(
    amd: FakeAmd, vram: int, is_judged: bool, text: str
) -> None:
    """It was 2 % full a moment ago."""
    amd.card(total=vram, used=vram - MIB)
    gtt(amd, 100 * GIB, text)
    (row,) = read(amd.root)["gpus"]
    assert ("message" not in row) == (is_judged and text != "-1")


# Through the prober.


async def test_a_model_that_fills_the_gtt_is_stated_with_its_owner(amd: FakeAmd, machine: Machine) -> None:
    """120 GiB of system memory that no VRAM shows."""
    amd.card(total=512 * MIB, used=400 * MIB)
    gtt(amd, 120 * GIB, 300 * MIB)
    assert (await machine.probe.sample())[0].severity is Severity.OK
    gtt(amd, 120 * GIB, 119 * GIB)
    amd.client(13, 5, 1, kibibytes=1 << 10)
    fdinfo = (amd.root / "proc/13/fdinfo/5").read_text()
    amd.write("proc/13/fdinfo/5", fdinfo.replace("8 KiB", f"{118 << 20} KiB"))
    findings = {finding.subsystem: finding for finding in await machine.probe.sample()}
    assert findings["server"].severity is Severity.ANOMALY
    assert "VRAM and GTT together" in findings["server"].reason


class Machine:
    def __init__(self, amd: FakeAmd) -> None:
        self.clock = ManualClock()
        self.prober = DriverProber(
            worker("amd_worker", os.environ, str(amd.root)), "AMD", timeout_seconds=30, start_seconds=30
        )
        self.source = AmdGpus(self.prober, self.clock, lambda: any(cards(amd.root)))
        self.told: list[str] = []
        self.probe = Vram(
            PROBES.vram,
            sources=[self.source],
            owner_of={13: "server"}.get,
            clock=self.clock,
            tell=self.told.append,
        )


@pytest.fixture
async def machine(amd: FakeAmd) -> AsyncIterator[Machine]:
    here = Machine(amd)
    yield here
    await here.probe.close()


async def test_a_full_amd_card_is_stated_with_its_owner(amd: FakeAmd, machine: Machine) -> None:
    """As an NVIDIA one."""
    amd.card(1, used=1 << 30)
    amd.kfd(13, 1 << 30)
    assert (await machine.probe.sample())[0].severity is Severity.OK
    amd.uses(24 << 30)
    amd.kfd(13, 24 << 30)
    host, server = await machine.probe.sample()
    assert (host.subsystem, host.severity) == (HOST, Severity.WARNING)
    assert (server.subsystem, server.severity) == ("server", Severity.ANOMALY)
    assert machine.probe.readings()[0].processes == (GpuProcess(13, 24 << 30),)
    assert machine.probe.readings()[0].vendor == "amd"


async def test_without_a_card_no_prober_is_started(amd: FakeAmd, machine: Machine) -> None:
    """One line; a card that comes later is found."""
    for _ in range(2):
        assert await machine.probe.sample() == []
    assert machine.prober._line is None
    assert machine.told == ["no AMD GPU: VRAM is not watched"]
    amd.card(1)
    machine.clock.advance(ABSENT_RETRY_SECONDS)
    assert (await machine.probe.sample())[0].severity is Severity.OK
    assert machine.probe.notice == ""


async def test_a_card_that_disappears_is_unknown_not_absent(amd: FakeAmd, machine: Machine) -> None:
    """What was watched before must not look fine."""
    amd.card(1)
    await machine.probe.sample()
    shutil.rmtree(amd.root / "sys/class/drm")
    with pytest.raises(ProbeError, match="card1 could not be read: it is not there any more"):
        await machine.probe.sample()


async def test_a_card_in_reset_makes_the_probe_blind(amd: FakeAmd, machine: Machine) -> None:
    """Until it answers again."""
    amd.card(1)
    amd.write(f"sys/devices/pci0000:00/{ADDRESS}/mem_info_vram_used", "unknown\n")
    with pytest.raises(ProbeError, match="card1"):
        await machine.probe.sample()
    amd.uses(5)
    assert (await machine.probe.sample())[0].severity is Severity.OK
