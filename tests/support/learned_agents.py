"""Three agents as people run them, in a home of their own: one that codes, one that reads documents, one that installs.

Each is a command and a directory; `record` runs it under the recorder, and nothing of it reaches a network.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

from patience import PATIENCE_SECONDS

from epad.confinement.recording import STRACE, Recording, read_recording

CODER = r"""
import pathlib, subprocess, sys, tempfile
project = pathlib.Path.home() / "project"
source = project / "adder.py"
count = source.read_text().count("def ") + 1
with open(source, "a") as file:
    file.write(f"\n\ndef add_{count}(a, b):\n    return a + b\n")
(project / "tests" / f"test_{count}.py").write_text(
    "import unittest, adder\nclass T(unittest.TestCase):\n"
    f"    def test(self): self.assertEqual(adder.add_{count}(1, 2), 3)\n"
)
with tempfile.TemporaryDirectory() as scratch:
    pathlib.Path(scratch, "notes").write_text("what to do next")
run = lambda *command: subprocess.run(command, cwd=project, check=True, stdout=subprocess.DEVNULL)
run(sys.executable, "-m", "unittest", "discover", "-q", "-s", "tests", "-t", ".")
run("git", "add", "-A")
run("git", "commit", "-q", "-m", f"Add {count}")
run("git", "log", "--oneline")
"""
READER = r"""
import json, pathlib, sqlite3
home = pathlib.Path.home()
settings = json.loads((home / ".config/reader/settings.json").read_text())
index = sqlite3.connect("index.db")
index.execute("create table if not exists word(word text, file text)")
for path in sorted(pathlib.Path(settings["documents"]).rglob("*.md")):
    index.executemany("insert into word values(?, ?)", [(word, path.name) for word in path.read_text().split()])
index.commit()
"""


@dataclass(frozen=True)
class Agent:
    """A command, where it starts, and what it has around it."""

    command: tuple[str, ...]
    directory: Path
    home: Path
    environment: dict[str, str] = field(default_factory=dict)


def coder(home: Path) -> Agent:
    """An agent that changes a project, tests it and commits it; it starts beside the project."""
    project, own = home / "project", home / "agent"
    (project / "tests").mkdir(parents=True)
    own.mkdir()
    (project / "adder.py").write_text("def add(a, b):\n    return a + b\n")
    (project / "tests/__init__.py").touch()
    (home / ".gitconfig").write_text("[user]\n\tname = A\n\temail = a@example.org\n")
    subprocess.run(
        ["git", "init", "-q", str(project)], check=True, env={"HOME": str(home), "PATH": os.environ["PATH"]}
    )
    (own / "agent.py").write_text(CODER)
    return Agent((sys.executable, "agent.py"), own, home)


def reader(home: Path) -> Agent:
    """An agent that reads a folder of documents, a disk away, and keeps an index of it beside itself."""
    own, documents = home / "reader", home.parent / "disk/documents"
    for folder in (own, documents / "deep", home / ".config/reader"):
        folder.mkdir(parents=True)
    (documents / "one.md").write_text("one word")
    (documents / "deep/two.md").write_text("two words")
    (home / "library").symlink_to(documents)
    (home / ".config/reader/settings.json").write_text(f'{{"documents": "{home}/library"}}')
    (own / "reader.py").write_text(READER)
    return Agent((sys.executable, "reader.py"), own, home)


def installer(home: Path) -> Agent:
    """Pip, that makes an environment new from a folder of wheels."""
    own, wheels = home / "work", home / "wheels"
    own.mkdir(parents=True)
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "thing-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("thing.py", "answer = 42")
        wheel.writestr("thing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
        wheel.writestr(
            "thing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("thing-1.0.dist-info/RECORD", "")
    pip = (sys.executable, "-m", "pip", "install", "--no-index", "--find-links", str(wheels), "--upgrade")
    return Agent((*pip, "--target", str(home / "packages"), "thing"), own, home)


AGENTS = {"coder": coder, "reader": reader, "installer": installer}


def record(agent: Agent, file: Path) -> Recording:
    """Run an agent under the recorder, to its end."""
    environment = {"HOME": str(agent.home), "PATH": "/usr/bin:/bin", **agent.environment}
    subprocess.run(
        [*STRACE, "-o", str(file), "--", *agent.command],
        cwd=agent.directory,
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=PATIENCE_SECONDS,
    )
    with file.open(errors="replace") as lines:
        return read_recording(lines, str(agent.directory))


def can_record() -> bool:
    """Tell if there is a recorder here, and one that may look at its children."""
    try:
        ended = subprocess.run([*STRACE, "-o", os.devnull, "--", "true"], check=False, capture_output=True)
    except FileNotFoundError:
        return False
    return ended.returncode == 0
