"""A worker of tools as a real program, and a workspace in which every tool's own examples are right."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import apsw

SECRET = "a secret that no tool may show"
PROGRAM = ("-m", "runners.tools")
HEADER = struct.Struct(">I")
GIT_ENVIRONMENT = {
    **os.environ,
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "LC_ALL": "C.UTF-8",
}


class ToolWorker:
    """Speaks to one worker; every call is answered in order unless `send` and `receive` are used."""

    def __init__(
        self,
        categories: str,
        root: Path | None,
        *options: str,
        program: Sequence[str] = PROGRAM,
        environment: dict[str, str] | None = None,
    ) -> None:
        command = [sys.executable, *program, categories, *options]
        if root:
            command += ["--root", str(root)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(environment or {})},
        )
        self._number = 0

    def send(self, message: dict[str, Any]) -> None:
        self.send_bytes(json.dumps(message).encode())

    def send_bytes(self, body: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(HEADER.pack(len(body)) + body)
        self.process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        assert self.process.stdout
        head = self.process.stdout.read(HEADER.size)
        if len(head) < HEADER.size:
            raise EOFError
        answer: dict[str, Any] = json.loads(self.process.stdout.read(*HEADER.unpack(head)))
        return answer

    def answer(self, tool: str, arguments: dict[str, Any], **fields: Any) -> dict[str, Any]:
        """Return the whole answer of one call."""
        self._number += 1
        self.send(
            {
                "id": self._number,
                "tool": tool,
                "arguments": arguments,
                "turn": f"turn-{self._number}",
                **fields,
            }
        )
        return self.receive()

    def __call__(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Return the result of a call that works."""
        answer = self.answer(tool, arguments)
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def refusal(self, tool: str, **arguments: Any) -> str:
        """Return the words in which a call is refused, and that it was the tool that refused it."""
        answer = self.answer(tool, arguments)
        assert answer.get("ended") == "error", answer
        assert "fault of the tool" not in answer["hint"], answer
        return f"{answer['error']} ({answer['hint']})"

    def close(self) -> bytes:
        """End the input, wait, and return what the worker has written to its errors."""
        _, errors = self.process.communicate()
        return errors


@contextmanager
def tool_worker(
    categories: str,
    root: Path | None,
    *options: str,
    program: Sequence[str] = PROGRAM,
    environment: dict[str, str] | None = None,
) -> Iterator[ToolWorker]:
    worker = ToolWorker(categories, root, *options, program=program, environment=environment)
    try:
        yield worker
    finally:
        assert worker.close() == b""


class World:
    """A workspace, with a secret beside it, and one worker that serves it through many tests."""

    def __init__(self, folder: Path, worker: ToolWorker, template: Path) -> None:
        self.folder = folder
        self.root = folder / "workspace"
        self.secret = folder / "secret.txt"
        self.worker = worker
        self._template = template

    def fresh(self) -> ToolWorker:
        """Bring the workspace back to its beginning, inside the directory that the worker has open."""
        for path in self.root.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        shutil.copytree(self._template, self.root, dirs_exist_ok=True, symlinks=True)
        self.secret.write_text(SECRET)
        return self.worker

    def outside(self) -> set[str]:
        """Return the names that are beside the workspace."""
        return {path.name for path in self.folder.iterdir()}


@contextmanager
def tool_world(
    folder: Path,
    categories: str,
    *options: str,
    repository: bool = True,
    program: Sequence[str] = PROGRAM,
    environment: dict[str, str] | None = None,
) -> Iterator[World]:
    """Make a workspace, and a worker with before-images."""
    template = make_workspace(folder / "template")
    if repository:
        make_repository(template)
    for name in ("workspace", "undo"):
        (folder / name).mkdir()
    options = ("--undo", str(folder / "undo"), *options)
    with tool_worker(
        categories, folder / "workspace", *options, program=program, environment=environment
    ) as worker:
        yield World(folder, worker, template)


def git(repo: Path, *arguments: str) -> str:
    """Run git as the person whose repository it is."""
    command = ["git", "-C", str(repo), "-c", "user.name=Ann", "-c", "user.email=ann@example.org", *arguments]
    done = subprocess.run(command, env=GIT_ENVIRONMENT, capture_output=True, text=True, check=True)
    return done.stdout


NOTEBOOK: dict[str, Any] = {
    "cells": [
        {
            "cell_type": "code",
            "execution_count": 1,
            "id": "a",
            "metadata": {},
            "outputs": [{"name": "stdout", "output_type": "stream", "text": ["1\n"]}],
            "source": ["print(1)\n"],
        },
        {"cell_type": "markdown", "id": "b", "metadata": {}, "source": ["# Study"]},
    ],
    "metadata": {},
    "nbformat": 4,
    "nbformat_minor": 5,
}


def make_workspace(root: Path) -> Path:
    """Write the files that the examples name."""
    files = {
        "notes.txt": "one two\nthree\n",
        "old.txt": "old\n",
        "src/app.py": "import os\n\n\nclass App:\n    def run(self):\n        return helper()\n\n\n"
        "def helper():\n    return os.name\n",
        "docs/index.md": "# Index\n",
        "build/x.o": "x",
        "study.ipynb": json.dumps(NOTEBOOK, indent=1) + "\n",
        "data.json": '{"items": [1, 2]}',
        "table.csv": "a;b\n1;2\n3;4\n",
        "config.yaml": "a: &x [1]\nb: *x\n",
        "config.toml": "day = 1979-05-27\n",
        "config.ini": "[main]\nName = %(x)s\n",
        "feed.xml": "<feed><item id='1'>x</item></feed>",
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    with zipfile.ZipFile(root / "pack.zip", "w") as packed:
        packed.writestr("packed/a.txt", "a")
    with tarfile.open(root / "pack.tar.gz", "w:gz") as pack:
        pack.add(root / "docs", "packed/docs")
    with closing(apsw.Connection(str(root / "data.sqlite"))) as database:
        database.execute("CREATE TABLE people(name, age); INSERT INTO people VALUES ('ann', 3), ('bob', 4)")
    return root


def make_repository(root: Path) -> Path:
    """Make the workspace a repository with two commits, a tag, a branch, a change and a new file."""
    git(root, "init", "--quiet", "--initial-branch=main")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=First")
    git(root, "tag", "v1")
    git(root, "branch", "topic")
    (root / "notes.txt").write_text("one two\nthree\nfour\n")
    git(root, "commit", "--quiet", "--all", "--message=Second")
    (root / "notes.txt").write_text("one two\nthree\nfour\nfive\n")
    (root / "fresh.txt").write_text("fresh\n")
    return root
