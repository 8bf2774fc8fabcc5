"""Measure starts as the child does: what a command is made of, and which changes of it are seen."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from runners.measure.command_parts import add_parts
from runners.measure.parts import Parts
from runners.measure.record import COMMAND, Record, compared, record_of
from runners.measure.request import Measured, Start

SYSTEM_PYTHON = "/usr/bin/python3"


class Place:
    """A folder with a program, and its measurements."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.before: Record | None = None
        self.made_of: tuple[str, ...] = ()
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}

    def write(self, name: str, text: str = "", mode: int = 0o644) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def parts(self, *command: str) -> Parts:
        parts = Parts(self.before.parts if self.before else None)
        add_parts(parts, Start(command, str(self.folder), self.environment, self.made_of))
        return parts

    def roles(self, *command: str) -> dict[str, str]:
        """The parts of a command in the folder, with their roles."""
        return {
            str(Path(path).relative_to(self.folder)): part.role
            for path, part in self.parts(*command).found.items()
            if Path(path).is_relative_to(self.folder)
        }

    def measure(self, *command: str) -> Measured:
        now = record_of(self.parts(*command), msgspec.json.encode(command))
        before, self.before = self.before, now
        return compared(before, now)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path.resolve())


def test_a_python_script_is_made_of_what_it_imports_under_its_own_folder(place: Place) -> None:
    """By name, relatively, by a name in a string, whole packages, folders added to the path; and nothing else."""
    place.write(
        "agent.py",
        "import helper, os\nfrom plan import steps\nimport importlib\nimportlib.import_module('late.part')\n"
        "import sys\nsys.path.insert(0, 'vendor')\nimport borrowed\nRUN = 'scripts/job.py'\n",
    )
    place.write("helper.py", "from inner import x")
    place.write("inner/__init__.py")
    place.write("inner/deep/loaded_by_name.py")
    place.write("plan/__init__.py")
    place.write("plan/steps.py", "from . import other\nfrom ..helper import y")
    place.write("plan/other.py")
    place.write("late/__init__.py")
    place.write("late/part.py")
    place.write("vendor/borrowed.py")
    place.write("scripts/job.py", "import used_by_job")
    place.write("scripts/used_by_job.py")
    place.write("notes.md")
    place.write("unused.py")

    found = place.roles(SYSTEM_PYTHON, "agent.py")

    assert found.pop("agent.py") == found.pop("scripts/job.py") == "script"
    assert found.keys() == {
        "helper.py",
        "inner/__init__.py",
        "inner/deep/loaded_by_name.py",
        "plan/__init__.py",
        "plan/steps.py",
        "plan/other.py",
        "late/__init__.py",
        "late/part.py",
        "vendor/borrowed.py",
        "scripts/used_by_job.py",
    }
    assert set(found.values()) == {"module"}


@pytest.mark.parametrize(
    "command",
    [
        (SYSTEM_PYTHON, "-m", "agent"),
        (SYSTEM_PYTHON, "-X", "utf8", "-W", "error", "-magent"),
        (SYSTEM_PYTHON, "-c", "import agent"),
        ("/usr/bin/env", "A=b", "python3", "agent/__main__.py"),
        ("/usr/bin/env", "-S", "python3", "-m", "agent"),
        ("timeout", "60", "python3", "-m", "agent"),
        ("/bin/sh", "-c", "cd . && exec python3 agent/__main__.py"),
        ("./start.sh",),
        ("/bin/bash", "start.sh"),
        ("./run.py",),
    ],
)
def test_however_it_is_started(place: Place, command: tuple[str, ...]) -> None:
    place.write("agent/__init__.py")
    place.write("agent/__main__.py", "from agent import work")
    place.write("agent/work.py")
    place.write("start.sh", '#!/bin/sh\nexec python3 "$(dirname $0)/agent/__main__.py" "$@"\n', 0o755)
    place.write("run.py", "#!/usr/bin/env python3\nimport agent.work\n", 0o755)

    first = place.measure(*command)
    place.write("agent/__main__.py", "from agent import work  # changed")
    second = place.measure(*command)

    assert first.is_first
    assert [Path(change.path).name for change in second.changes] == ["__main__.py"]


def test_a_node_script_is_made_of_what_it_requires(place: Place) -> None:
    place.write(
        "agent.mjs", 'import { a } from "./lib/a.js";\nimport kit from "kit";\nawait import("@x/y/sub");\n'
    )
    place.write("lib/a.js", "const b = require('./b');\nrequire('node:fs');")
    place.write("lib/b.ts")
    place.write("package.json", "{}")
    place.write("node_modules/kit/package.json", '{"exports": {".": {"import": "./esm.js"}}}')
    place.write("node_modules/kit/esm.js")
    place.write("node_modules/kit/unused.js")
    place.write("node_modules/@x/y/package.json", '{"main": "index.js"}')
    place.write("node_modules/@x/y/sub.js")
    place.write("node", "", 0o755)
    place.environment["PATH"] = f"{place.folder}:{place.environment['PATH']}"

    found = place.roles("node", "agent.mjs")

    assert found.pop("agent.mjs") == "script"
    assert found.pop("node") == "program"
    assert found.keys() == {
        "lib/a.js",
        "lib/b.ts",
        "package.json",
        "node_modules/kit/package.json",
        "node_modules/kit/esm.js",
        "node_modules/@x/y/package.json",
        "node_modules/@x/y/sub.js",
    }


SITE = "venv/lib/python3.11/site-packages"


def environment(place: Place) -> None:
    """A virtual environment with packages that an installer has recorded, and one that somebody put there."""
    (place.folder / "venv/bin").mkdir(parents=True)
    (place.folder / "venv/bin/python").symlink_to(SYSTEM_PYTHON)
    place.write("venv/pyvenv.cfg", "home = /usr/bin\n")
    place.write(f"{SITE}/sitecustomize.py")
    place.write(f"{SITE}/x.pth")
    place.write(f"{SITE}/by_hand/__init__.py")
    for name, files, needs in (
        ("used", ("used/__init__.py", "used/core.py"), "Requires-Dist: Its_Need (>=1); extra == 'all'\n"),
        ("its-need", ("need.py",), ""),
        ("unused", ("unused/__init__.py",), ""),
    ):
        lines = []
        for file in files:
            path = place.write(f"{SITE}/{file}", file)
            digest = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).decode().rstrip("=")
            lines.append(f"{file},sha256={digest},{path.stat().st_size}\n")
        info = f"{SITE}/{name.replace('-', '_')}-1.0.dist-info"
        place.write(f"{info}/METADATA", f"Name: {name}\n{needs}\n")
        place.write(f"{info}/RECORD", "".join(lines) + f"{info}/RECORD,,\n")


def test_a_virtual_environment_counts_for_what_is_imported_from_it(place: Place) -> None:
    """With what that needs, and what runs at each start; a package that nothing imports does not."""
    environment(place)
    place.write("agent.py", "import used, by_hand")

    found = place.roles("venv/bin/python", "agent.py")

    assert found.pop(f"{SITE}/by_hand/__init__.py") == "module"
    assert {name.removeprefix(f"{SITE}/") for name, role in found.items() if role == "environment"} == {
        "venv/pyvenv.cfg",
        "used/__init__.py",
        "used/core.py",
        "need.py",
        "sitecustomize.py",
        "x.pth",
    }


def test_what_an_installer_has_recorded_is_not_read_until_it_changes(place: Place) -> None:
    """The recorded digest is the file's own, so one that is written anew with the same bytes is no change."""
    environment(place)
    place.write("agent.py", "import used")
    core = place.folder / SITE / "used/core.py"
    record = place.folder / SITE / "used-1.0.dist-info/RECORD"
    place.measure("venv/bin/python", "agent.py")
    core.write_text(core.read_text())
    assert place.measure("venv/bin/python", "agent.py").changed == 0

    core.write_text("used/c0re.py")
    record.touch()

    assert [Path(one.path).name for one in place.measure("venv/bin/python", "agent.py").changes] == [
        "core.py"
    ]


def test_a_record_does_not_count_for_a_file_of_another_size(place: Place) -> None:
    environment(place)
    place.write("agent.py", "import used")
    (place.folder / SITE / "used/core.py").write_text("used/core.py, longer")
    before = place.parts("venv/bin/python", "agent.py").found[str(place.folder / SITE / "used/core.py")]

    assert before.digest == hashlib.sha256(b"used/core.py, longer").hexdigest()


def test_an_editable_install_is_a_folder_of_its_own(place: Place) -> None:
    site = "venv/lib/python3.11/site-packages"
    (place.folder / "venv/bin").mkdir(parents=True)
    (place.folder / "venv/bin/python").symlink_to(SYSTEM_PYTHON)
    place.write("venv/pyvenv.cfg", "home = /usr/bin\n")
    place.write("venv/bin/agent", f"#!{place.folder}/venv/bin/python\nfrom kit import main\n", 0o755)
    place.write("src/kit/__init__.py")
    place.write("src/kit/main.py")
    place.write("src2/second/__init__.py")
    place.write(f"{site}/kit.pth", f"{place.folder}/src\n")
    place.write(
        f"{site}/__editable___second_finder.py", f"MAPPING = {{'second': '{place.folder}/src2/second'}}\n"
    )

    found = place.roles("venv/bin/agent")
    assert found["venv/bin/agent"] == "script"
    assert found["src/kit/main.py"] == "module"

    place.write("src/kit/main.py", "import second")
    assert place.roles("venv/bin/agent")["src2/second/__init__.py"] == "module"


def test_the_model_of_a_server_is_a_part_of_it(place: Place) -> None:
    """A file of weights, a folder of them, a name at Hugging Face, and what Ollama serves."""
    place.write("m.gguf", "weights")
    place.write("model/model-1.safetensors", "weights")
    place.write("model/config.json")
    place.write("model/README")
    hub = ".cache/huggingface/hub/models--meta--tiny"
    place.write(f"{hub}/refs/main", "abc")
    place.write(f"{hub}/blobs/111", "weights")
    (place.folder / hub / "snapshots/abc").mkdir(parents=True)
    (place.folder / hub / "snapshots/abc/model.safetensors").symlink_to(f"{place.folder}/{hub}/blobs/111")
    place.write(".ollama/models/manifests/registry/library/llama/8b", "{}")
    place.write("ollama", "", 0o755)

    assert place.roles("llama-server", "-m", "m.gguf")["m.gguf"] == "model"
    assert place.roles("llama-server", "--model=m.gguf")["m.gguf"] == "model"
    assert place.roles("vllm", "serve", "model").keys() == {"model/model-1.safetensors", "model/config.json"}
    assert place.roles("vllm", "serve", "meta/tiny").keys() == {f"{hub}/refs/main", f"{hub}/blobs/111"}
    assert place.roles("./ollama", "serve")[".ollama/models/manifests/registry/library/llama/8b"] == "model"


def test_a_program_of_ones_own_has_the_libraries_beside_it(place: Place) -> None:
    place.write("bin/server", "\x7fELF", 0o755)
    place.write("bin/libggml.so")
    place.write("lib/libllama.so.1")

    assert place.roles("bin/server").keys() == {"bin/server", "bin/libggml.so", "lib/libllama.so.1"}


@pytest.mark.parametrize("variable", ["LD_PRELOAD", "NODE_OPTIONS", "PYTHONSTARTUP", "PYTHONPATH"])
def test_what_a_variable_brings_in_is_a_part(place: Place, variable: str) -> None:
    place.write("agent.py", "import brought")
    place.write("extra/brought.py")
    values = {"PYTHONPATH": "extra", "NODE_OPTIONS": "--require extra/brought.py"}
    place.environment[variable] = values.get(variable, "extra/brought.py")

    assert "extra/brought.py" in place.roles(SYSTEM_PYTHON, "agent.py")


def test_files_that_it_is_said_to_be_made_of(place: Place) -> None:
    place.write("agent.py")
    place.write("prompts/system.md")
    place.made_of = ("prompts/*.md", f"{place.folder}/agent.p?")

    assert place.roles(SYSTEM_PYTHON, "agent.py") == {"agent.py": "script", "prompts/system.md": "named"}


def test_what_the_system_has_is_no_part(place: Place) -> None:
    assert place.parts("/bin/sh", "-c", "true").found == {}


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "rewritten": (lambda path: path.write_text("import os"), "changed"),
    "one byte": (lambda path: path.write_text("import ys"), "changed"),
    "appended to": (lambda path: path.write_text(path.read_text() + "\n"), "changed"),
    "emptied": (lambda path: path.write_text(""), "changed"),
    "removed": (lambda path: path.unlink(), "removed"),
    "led nowhere": (lambda path: path.rename(path.with_name("away")), "removed"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_of_a_module_is_seen(place: Place, change: str) -> None:
    place.write("agent.py", "import part")
    part = place.write("part.py", "import sys")
    place.measure(SYSTEM_PYTHON, "agent.py")
    act, how = CHANGES[change]
    act(part)

    measured = place.measure(SYSTEM_PYTHON, "agent.py")

    assert [(one.how, Path(one.path).name, one.role) for one in measured.changes] == [
        (how, "part.py", "module")
    ]
    assert measured.before != measured.digest


def test_a_change_behind_a_kept_time_is_seen(place: Place) -> None:
    """Size and times are put back, as by `touch -r`; the kernel's own time of the change cannot be."""
    part = place.write("agent.py", "a = 1")
    place.measure(SYSTEM_PYTHON, "agent.py")
    status = part.stat()
    part.write_text("a = 2")
    os.utime(part, ns=(status.st_atime_ns, status.st_mtime_ns))

    assert place.measure(SYSTEM_PYTHON, "agent.py").changed == 1


def test_another_command_is_a_change(place: Place) -> None:
    place.write("agent.py")
    place.measure(SYSTEM_PYTHON, "agent.py")

    assert [one.path for one in place.measure(SYSTEM_PYTHON, "agent.py", "--fast").changes] == [COMMAND]


@pytest.mark.parametrize(
    "same", ["touched", "written anew", "copied over", "another file beside it", "cached"]
)
def test_the_same_bytes_are_no_change(place: Place, same: str) -> None:
    part = place.write("agent.py", "import part")
    place.write("part.py", "x = 1")
    place.measure(SYSTEM_PYTHON, "agent.py")
    match same:
        case "touched":
            os.utime(part, (1, 1))
        case "written anew":
            part.write_text("import part")
        case "copied over":
            shutil.copy2(part, place.folder / "copy")
            (place.folder / "copy").replace(part)
        case "another file beside it":
            place.write("state.json", "1")
        case "cached":
            place.write("__pycache__/part.cpython-311.pyc")

    assert place.measure(SYSTEM_PYTHON, "agent.py").changed == 0


def test_hostile_files_hold_nothing_up(place: Place) -> None:
    """A pipe is no file, a loop of links ends, imports in a circle end, code that cannot be parsed is a part."""
    place.write("agent.py", "import a")
    place.write("a/__init__.py", "from . import b")
    place.write("a/b.py", "import a\nimport agent\n(((")
    os.mkfifo(place.folder / "a/pipe.py")
    (place.folder / "a/loop").symlink_to(place.folder / "a")
    (place.folder / "a/self.py").symlink_to("self.py")
    (place.folder / "a/kernel.py").symlink_to(
        "/proc/kmsg"
    )  # a regular file, whose reader waits for what is to come

    assert place.roles(SYSTEM_PYTHON, "agent.py").keys() == {
        "agent.py",
        "a/__init__.py",
        "a/b.py",
        "a/pipe.py",
    }


def test_the_child_keeps_the_parts_and_tells_the_difference(place: Place, tmp_path: Path) -> None:
    place.write("agent.py", "a = 1")
    start = Start((SYSTEM_PYTHON, "agent.py"), str(place.folder), place.environment)
    kept, new = tmp_path / "kept.json", tmp_path / "new.json"

    def measured() -> Measured:
        command = (
            sys.executable,
            "-P",
            "-m",
            "runners.measure",
            msgspec.json.encode(start).decode(),
            kept,
            new,
        )
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        return msgspec.json.decode(done.stdout, type=Measured)

    assert measured().is_first
    new.replace(kept)
    assert not measured().changed
    place.write("agent.py", "a = 2")
    assert measured().changed == 1
    kept.write_text("{torn")
    assert measured().is_first
