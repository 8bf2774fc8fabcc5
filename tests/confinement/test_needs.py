"""What an agent needs to work, in the same cells that hold every escape: each program as its users run it."""

from __future__ import annotations

import asyncio
import json
import shutil
import sysconfig
import zipfile
from dataclasses import replace
from pathlib import Path

import cell_world
import pytest
from agent_needs import NEEDS, Need
from cell_world import Mode
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


def reading(ordered: CellPlan, *roots: str) -> CellPlan:
    """Return a plan that reads more roots, and finds Python's packages there."""
    environment = {**ordered.environment, "PYTHONPATH": ":".join(roots)}
    tree = replace(ordered.tree, read=(*ordered.tree.read, *roots))
    return replace(ordered, tree=tree, environment=environment)


def test_there_are_twelve_and_more() -> None:
    assert len(NEEDS) >= 12


@pytest.mark.parametrize("need", NEEDS, ids=lambda need: need.name)
async def test_a_need_is_met(zygote: Zygote, place: Path, mode: Mode, need: Need) -> None:
    for program in need.lacking():
        pytest.skip(f"no {program} here")
    ended = await cell_world.run(zygote, cell_world.plan(place, need.command, mode))
    assert need.is_met(ended.output), ended.output
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
