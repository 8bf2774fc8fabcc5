"""What an agent needs to work, in the same cells that hold every escape: each program as its users run it."""

from __future__ import annotations

import asyncio
import json
import shutil
import sysconfig
import textwrap
import zipfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cell_world
import pytest
from cell_world import MODES, Mode
from neighbourhood import PYTHON

from epad.confinement.zygote import Zygote
from runners.cell.plan import CellPlan

PACKAGES = sysconfig.get_path("purelib")
ANSWER = {
    "id": "1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}}],
}


@dataclass(frozen=True, slots=True)
class Need:
    """A script for the shell, the programs that it takes, and the last line that it prints."""

    name: str
    script: str
    takes: tuple[str, ...] = ()
    expected: str = "ok"


def python(name: str, code: str, *, expected: str = "ok") -> Need:
    """A need that is Python code."""
    return Need(name, f"cat >{name}.py <<'END'\n{code}\nEND\n{PYTHON} {name}.py", (), expected)


NEEDS = (
    Need(
        "git",
        """
        export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
        git init -q repo && cd repo && echo x >file && git add . && git commit -qm one && git switch -qc other
        cd .. && git clone -q repo copy && git -C copy log --format=format:ok -1
        """,
        ("git",),
    ),
    Need(
        "make and a compiler",
        """
        printf 'int puts(const char *); int main(void) { puts("ok"); }' >a.c
        printf 'a: a.c\\n\\tcc -o a a.c\\n' >Makefile
        make -s a && ./a
        """,
        ("make", "cc"),
    ),
    Need(
        "node",
        """
        cat >a.js <<'END'
        const server = require("http").createServer((_, answer) => answer.end("ok"));
        server.listen(0, "127.0.0.1", async () => {
          console.log(await (await fetch(`http://127.0.0.1:${server.address().port}`)).text());
          server.close();
        });
        END
        node a.js
        """,
        ("node",),
    ),
    Need("a local time zone", "TZ=Asia/Tokyo date -d @0 +%H", expected="09"),
    Need("a locale", "LC_ALL=C.UTF-8 locale charmap", ("locale",), "UTF-8"),
    Need("pipes and jobs", "(sleep 0.1; echo ok) | tee out & wait; cat out"),
    Need("an archive", "mkdir d && echo ok >d/f && tar czf d.tgz d && rm -r d && tar xzf d.tgz && cat d/f"),
    Need("a temporary file", 'file=$(mktemp) && echo ok >"$file" && cat "$file"'),
    Need(
        "a home to write to", 'mkdir -p "$HOME/.cache" && echo ok >"$HOME/.cache/x" && cat "$HOME/.cache/x"'
    ),
    Need("processes to look at and signal", "sleep 60 & kill $! && wait $!; ps -e >/dev/null && echo ok"),
    Need("who one is", "id -un >/dev/null; test -r /etc/passwd && cat /dev/null && echo ok"),
    python(
        "loopback_server",
        """
import http.server, threading, urllib.request
server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
assert urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/").status == 200
print("ok")""",
    ),
    python(
        "several_processes",
        """
import multiprocessing
if __name__ == "__main__":
    with multiprocessing.Pool(2) as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2]
    with multiprocessing.Manager() as manager:
        assert manager.list([1])[0] == 1
    print("ok")""",
    ),
    python(
        "subprocesses",
        """
import subprocess, sys
print(subprocess.run([sys.executable, "-c", "print('ok')"], capture_output=True, text=True).stdout.strip())""",
    ),
    python(
        "a_terminal",
        """
import os, pty
pid, terminal = pty.fork()
if pid == 0:
    os.execvp("tty", ["tty"])
assert os.read(terminal, 100).startswith(b"/dev/pts/")
print("ok")""",
    ),
    python(
        "a_database",
        """
import sqlite3
database = sqlite3.connect("a.db")
database.execute("PRAGMA journal_mode=WAL")
database.execute("CREATE TABLE t (x)")
database.commit()
print("ok")""",
    ),
    python(
        "a_unix_socket",
        """
import asyncio
async def main():
    server = await asyncio.start_unix_server(lambda reader, writer: writer.close(), "own.sock")
    reader, writer = await asyncio.open_unix_connection("own.sock")
    assert await reader.read() == b""
    writer.close()
    print("ok")
asyncio.run(main())""",
    ),
    python(
        "memory_that_is_not_executed",
        """
import ctypes, mmap, os
file = os.memfd_create("x", os.MFD_CLOEXEC | 8)
os.ftruncate(file, 4096)
mmap.mmap(file, 4096)[:2] = b"ok"
assert ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 7)() == 7
print("ok")""",
    ),
    python(
        "interfaces_and_datagrams",
        """
import socket
assert [name for _, name in socket.if_nameindex()] == ["lo"]
one, other = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in "12")
one.bind(("127.0.0.1", 0))
other.sendto(b"x", one.getsockname())
assert one.recv(1) == b"x"
assert socket.gethostbyname("localhost") == "127.0.0.1"
print("ok")""",
    ),
)


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> Mode:
    kind: Mode = request.param
    cell_world.need(kind)
    return kind


@pytest.fixture
async def zygote() -> AsyncIterator[Zygote]:
    async with cell_world.zygote() as kept:
        yield kept


@pytest.fixture
def place() -> Iterator[Path]:
    with cell_world.workspace(cell_world.UID) as made:
        yield made


def reading(ordered: CellPlan, *roots: str) -> CellPlan:
    """Return a plan that reads more roots, and finds Python's packages there."""
    environment = {**ordered.environment, "PYTHONPATH": ":".join(roots)}
    tree = replace(ordered.tree, read=(*ordered.tree.read, *roots))
    return replace(ordered, tree=tree, environment=environment)


def test_there_are_twelve_and_more() -> None:
    assert len(NEEDS) >= 12


@pytest.mark.parametrize("need", NEEDS, ids=lambda need: need.name)
async def test_a_need_is_met(zygote: Zygote, place: Path, mode: Mode, need: Need) -> None:
    for program in need.takes:
        if shutil.which(program) is None:
            pytest.skip(f"no {program} here")
    ended = await cell_world.run(
        zygote, cell_world.plan(place, ["sh", "-c", textwrap.dedent(need.script)], mode)
    )
    assert ended.output.strip().splitlines()[-1:] == [need.expected], ended.output
    assert ended.status == 0


async def test_pip_installs_a_package(zygote: Zygote, place: Path, mode: Mode) -> None:
    """A wheel of the workspace's; from an index it comes by the way out."""
    with zipfile.ZipFile(place / "thing-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("thing.py", "print('ok')")
        wheel.writestr("thing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
        wheel.writestr("thing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("thing-1.0.dist-info/RECORD", "")
    script = f"{PYTHON} -m pip -q install --no-index --target packages ./*.whl && {PYTHON} packages/thing.py"
    ordered = reading(cell_world.plan(place, ["sh", "-c", script], mode), PACKAGES)
    ended = await cell_world.run(zygote, ordered)
    assert ended.output.splitlines()[-1:] == ["ok"], ended.output


async def test_an_agent_asks_its_model(zygote: Zygote, place: Path, mode: Mode) -> None:
    """By OpenAI's package, at the door; on our side of which a server answers."""
    code = """
import openai
client = openai.OpenAI(base_url="http://127.0.0.1:8711/v1", api_key="k")
answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])
print(answer.choices[0].message.content)
"""
    ordered = reading(cell_world.plan(place, [PYTHON, "-c", code], mode), PACKAGES)
    running = await cell_world.start(zygote, ordered)
    server = await asyncio.start_server(_answer, sock=running.cell.doors[0].dup())
    async with server:
        ended = await running.end()
    assert ended.output.splitlines()[-1:] == ["hello"], ended.output


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().splitlines() if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.partition(b":")[2]))
    body = json.dumps(ANSWER).encode()
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
    writer.write(b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)
    writer.close()


@pytest.mark.long
async def test_torch_computes(zygote: Zygote, place: Path, mode: Mode) -> None:
    """With threads and a loader's processes, which share memory."""
    code = """
import torch
if __name__ == "__main__":
    values = torch.ones(300, 300)
    loader = torch.utils.data.DataLoader(range(8), num_workers=2)
    assert (values @ values).sum() == 300 ** 3
    assert sum(int(batch) for batch in loader) == 28
    print("ok")
"""
    (place / "a.py").write_text(code)
    ordered = reading(cell_world.plan(place, [PYTHON, "a.py"], mode), PACKAGES)
    ended = await cell_world.run(zygote, ordered)
    assert ended.output.splitlines()[-1:] == ["ok"], ended.output


async def test_a_browser_starts(zygote: Zygote, place: Path, mode: Mode) -> None:
    """Without its own sandbox, which would take namespaces within ours."""
    if shutil.which("chromium") is None:
        pytest.skip("no chromium here: apt-get install chromium")
    page = "data:text/html,<title>x</title>ok"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    ended = await cell_world.run(zygote, cell_world.plan(place, ["chromium", *options, page], mode))
    assert "<body>ok</body>" in ended.output, ended.output
