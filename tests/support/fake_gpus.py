"""GPUs that are not there: an NVML library that says what a file says, and amdgpu's files in a directory."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "fake_nvml.c"


def fake_nvml(directory: Path) -> Path:
    """Build `libnvidia-ml.so.1` here, for LD_LIBRARY_PATH; it reads the file that $FAKE_NVML_STATE names."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc) here: nothing is tested against an NVML library")
    target = directory / "libnvidia-ml.so.1"
    options = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-Wl,-soname,libnvidia-ml.so.1"]
    subprocess.run([compiler, *options, "-o", str(target), str(SOURCE)], check=True)
    return directory


class FakeAmd:
    """The parts of /sys and /proc that tell of an AMD GPU, below a root of one's own."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_name(f".{file.name}.new")
        new.write_text(text)
        new.replace(file)

    def card(
        self,
        number: int = 1,
        address: str = "0000:03:00.0",
        *,
        total: int = 24 << 30,
        used: int = 0,
        vendor: str = "0x1002",
    ) -> None:
        """A card, and a connector of it that must not be taken for one."""
        device = f"sys/devices/pci0000:00/{address}"
        self.write(f"{device}/vendor", f"{vendor}\n")
        self.write(f"{device}/device", "0x744c\n")
        self.write(f"{device}/mem_info_vram_total", f"{total}\n")
        self.write(f"{device}/mem_info_vram_used", f"{used}\n")
        drm = self.root / "sys/class/drm"
        (drm / f"card{number}").mkdir(parents=True, exist_ok=True)
        (drm / f"card{number}-DP-1").mkdir(exist_ok=True)
        link = drm / f"card{number}" / "device"
        if not link.is_symlink():
            link.symlink_to(self.root / device)

    def uses(self, used: int, address: str = "0000:03:00.0") -> None:
        """What the card says is in use."""
        self.write(f"sys/devices/pci0000:00/{address}/mem_info_vram_used", f"{used}\n")

    def client(
        self,
        pid: int,
        descriptor: int,
        client: int,
        *,
        kibibytes: int,
        key: str = "resident",
        address: str = "0000:03:00.0",
    ) -> None:
        """A descriptor of a process on a DRM device."""
        link = self.root / f"proc/{pid}/fd/{descriptor}"
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to("/dev/dri/renderD128")
        text = (
            f"pos:\t0\nflags:\t02104002\ndrm-driver:\tamdgpu\ndrm-pdev:\t{address}\ndrm-client-id:\t{client}\n"
            f"drm-total-vram:\t{2 * kibibytes} KiB\ndrm-{key}-vram:\t{kibibytes} KiB\ndrm-{key}-gtt:\t8 KiB\n"
        )
        self.write(f"proc/{pid}/fdinfo/{descriptor}", text)

    def kfd(self, pid: int, size: int, gpu_id: int = 51234, location: int = 768) -> None:
        """What a ROCm process holds; location 768 is 03:00.0."""
        node = "sys/class/kfd/kfd/topology/nodes"
        self.write(f"{node}/0/gpu_id", "0\n")
        self.write(f"{node}/1/gpu_id", f"{gpu_id}\n")
        self.write(f"{node}/1/properties", f"simd_count 96\nlocation_id {location}\ndomain 0\n")
        self.write(f"sys/class/kfd/kfd/proc/{pid}/vram_{gpu_id}", f"{size}\n")
