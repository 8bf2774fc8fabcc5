"""The tools of docker against a real engine: Podman's service, with an image of one static program.

The recording that the fake engine answers by is of it; what is read of an answer is there in both.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fake_engine import RECORDING
from tool_process import ToolWorker, tool_worker

from runners.tools.engine import Engine

IMAGE = "epad-test:latest"
PROGRAM = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static int show(const char *path) {
    FILE *file = fopen(path, "r");
    if (!file) { perror(path); return 2; }
    for (int c; (c = getc(file)) != EOF;) putchar(c);
    return 0;
}
int main(int count, char **words) {
    const char *word = count > 1 ? words[1] : "nothing", *path = count > 2 ? words[2] : "";
    if (!strcmp(word, "sleep")) sleep(600);
    if (!strcmp(word, "cat") && show(path)) return 2;
    if (!strcmp(word, "write") && !fopen(path, "w")) { perror(path); return 2; }
    if (!strcmp(word, "eat")) for (;;) { char *more = malloc(1 << 20); if (!more) return 3; memset(more, 1, 1 << 20); }
    printf("out of %s\n", word); fflush(stdout); fprintf(stderr, "an error\n");
    return strcmp(word, "fail") ? 0 : 7;
}
"""


@dataclass(frozen=True, slots=True)
class Real:
    """A real engine with a worker of its tools, and the workspace."""

    worker: ToolWorker
    root: Path

    def run(self, *argv: str, **options: Any) -> dict[str, Any]:
        return self.worker("docker_run", image=IMAGE, argv=["/hello", *argv], **options)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A directory with a short name, as podman wants it."""
    made = Path(tempfile.mkdtemp(prefix="epad-", dir="/var/tmp"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
def real(folder: Path) -> Iterator[Real]:
    missing = [name for name in ("podman", "runc", "cc") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"no container engine to start here: {', '.join(missing) or 'root'}")
    (folder / "hello.c").write_text(PROGRAM)
    subprocess.run(["cc", "-static", "-O1", "-o", "hello", "hello.c"], cwd=folder, check=True)
    with tarfile.open(folder / "image.tar", "w") as packed:
        packed.add(folder / "hello", "hello")
    # Containers of a confined engine cannot raise their limits.
    (folder / "conf").write_text('[containers]\ndefault_ulimits = ["nproc=4096:4096", "nofile=1024:4096"]\n')
    options = ["--root", str(folder / "r"), "--runroot", str(folder / "n"), "--storage-driver", "vfs"]
    options += ["--cgroup-manager", "cgroupfs", "--runtime", shutil.which("runc") or "runc"]
    environment = {**os.environ, "CONTAINERS_CONF": str(folder / "conf")}
    subprocess.run(
        ["podman", *options, "import", "image.tar", IMAGE], cwd=folder, env=environment, check=True
    )
    (folder / "work").mkdir()
    (folder / "work" / "notes.txt").write_text("notes\n")
    service = ["podman", *options, "system", "service", "-t", "0", f"unix://{folder}/s"]
    with (
        subprocess.Popen(service, cwd=folder, env=environment) as running,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("EPAD_ENGINE_SOCKET", f"{folder}/s")
        patch.setenv("EPAD_ENGINE_SUBSYSTEM", "agent")
        try:
            while running.poll() is None and not (folder / "s").exists():
                time.sleep(0.05)
            yield from started(folder)
        finally:
            running.terminate()


def started(folder: Path) -> Iterator[Real]:
    """Give a worker of an engine that listens; skip where it can run no container."""
    with tool_worker("docker", folder / "work") as worker:
        tried = worker.answer("docker_run", {"image": IMAGE, "argv": ["/hello"]})
        if "error" in tried:
            pytest.skip(f"the container engine runs no container here: {tried['error']}")
        yield Real(worker, folder / "work")


def test_a_real_container_is_confined(real: Real) -> None:
    """No network, the workspace to be read alone, bounded memory and time; nothing is left."""
    hello = real.run("hi")
    assert (hello["stdout"], hello["stderr"], hello["exit"]) == ("out of hi\n", "an error\n", 0)
    assert real.run("fail")["exit"] == 7
    devices = real.run("cat", "/proc/net/dev")["stdout"].splitlines()[2:-1]
    assert [line.split(":")[0].strip() for line in devices] == ["lo"]
    assert real.run("cat", "/workspace/notes.txt", workspace=True)["stdout"].startswith("notes\n")
    assert real.run("cat", "/workspace/notes.txt")["exit"] == 2
    written = real.run("write", "/workspace/new", workspace=True)
    assert (written["exit"], "Read-only" in written["stderr"]) == (2, True)
    rights = real.run("cat", "/proc/self/status")["stdout"]
    assert "CapEff:\t0000000000000000" in rights
    assert "NoNewPrivs:\t1" in rights
    assert real.run("eat", memory=32)["exit"] == 137
    assert "exit" not in real.run("sleep", timeout=0.5)
    assert not (real.root / "new").exists()
    assert real.worker("docker_ps", all=True)["containers"] == []


def test_a_real_container_is_entered_looked_at_and_stopped(real: Real) -> None:
    """One that goes on behind its call."""
    container = real.run("sleep", detach=True)["container"]
    ran = real.worker("docker_exec", container=container, argv=["/hello", "there"])
    assert (ran["exit"], ran["stdout"], ran["stderr"]) == (0, "out of there\n", "an error\n")
    assert real.worker("docker_logs", container=container)["lines"] == []
    assert real.worker("docker_stats", container=container)["memory_limit"] == 512 << 20
    told = real.worker("docker_inspect", container=container)["object"]
    assert all(each.endswith("=***") for each in told["Config"]["Env"])
    assert told["Config"]["Labels"]["epad.subsystem"] == "agent"
    assert real.worker("docker_images")["images"]
    assert "no container" in real.worker.refusal("docker_logs", container="nothing")
    assert "image" in real.worker.refusal("docker_run", image="surely-not-here:1", argv=["x"])
    assert real.worker("docker_stop", container=container) == {"stopped": True}
    assert real.worker("docker_ps", all=True)["containers"] == []


READ = {
    "inspect": ("Id", "State", "Config"),
    "list": ("Id", "Names", "Image", "Labels", "State", "Status"),
    "images": ("Id", "RepoTags", "Size"),
    "stats": ("cpu_stats", "memory_stats", "blkio_stats"),
}


def test_the_recording_is_as_the_engine_answers(real: Real) -> None:
    """In the fields that tools read, by their kinds: so the fake engine, which answers by it, is as the real one."""
    container = real.run("sleep", detach=True)["container"]
    engine = Engine()
    answers = {
        "inspect": engine.get(f"/containers/{container}/json"),
        "list": engine.get("/containers/json", all="1"),
        "images": engine.get("/images/json"),
        "stats": engine.get(f"/containers/{container}/stats", stream="false"),
    }
    real.worker("docker_stop", container=container)
    for kind, names in READ.items():
        now, then = (
            value[0] if isinstance(value, list) else value
            for value in (answers[kind], RECORDING[kind]["body"])
        )
        assert json.dumps({name: sorted(_names(now[name])) for name in names}) == json.dumps(
            {name: sorted(_names(then[name])) for name in names}
        ), kind


def _names(value: Any) -> list[str]:
    return list(value) if isinstance(value, dict) else [type(value).__name__]
