"""The program that a first process becomes: it ends as the cell's program does, and is what its source says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runners.cell import tiny_init

SOURCES = Path(tiny_init.__file__).parent
DATA_BYTES = 8

# Forks the program given by the arguments, and an orphan to reap before it, and becomes the init.
RUN = """
import os, sys
from runners.cell import tiny_init
if os.fork() == 0:
    os._exit(99)
program = os.fork()
if program == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
tiny_init.become(tiny_init.open_file(), program, name="x", marks={"A": "b"}, dumpable=True)
os._exit(77)
"""


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 0", 0), ("exit 255", 255), ("kill -9 $$", 137), ("kill -SEGV $$", 139), ("sleep 0.1; exit 4", 4)],
)
def test_it_ends_as_the_program(script: str, status: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN, "sh", "-c", script], cwd=SOURCES.parents[1], check=False
    )
    assert done.returncode == status


@pytest.mark.parametrize(("machine", "assembler"), [("x86_64", "as"), ("aarch64", "aarch64-linux-gnu-as")])
def test_it_is_what_its_source_says(machine: str, assembler: str, tmp_path: Path) -> None:
    """Byte for byte, but for the data, which is filled in."""
    if os.uname().machine == "aarch64":
        assembler = "as" if machine == "aarch64" else "x86_64-linux-gnu-as"
    if shutil.which(assembler) is None:
        pytest.skip(f"no {assembler} here")
    if shutil.which("objcopy") is None:
        pytest.skip("no objcopy here")
    built, code = tmp_path / "init.o", tmp_path / "code"
    subprocess.run([assembler, SOURCES / f"init.{machine}.S", "-o", built], check=True)
    copy = assembler.removesuffix("as") + "objcopy"
    subprocess.run([copy, "-O", "binary", "-j", ".text", built, code], check=True)
    assert code.read_bytes()[:-DATA_BYTES] == tiny_init.CODE[machine]


def test_a_machine_without_one_keeps_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller goes on, and reaps by itself."""
    monkeypatch.setattr(tiny_init, "CODE", {})
    file = tiny_init.open_file()
    tiny_init.become(file, 1, name="x", marks={}, dumpable=True)
    assert os.fstat(file).st_size == 0
    os.close(file)
