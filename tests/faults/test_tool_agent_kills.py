"""An agent does a job with ten tools while the daemon is killed again and again: no effect without its record.

The agent is a loop around the `openai` package, as people write it. Its model is a script of ours behind the gateway.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest
from installed import QUICK, Installation, installation
from patience import PATIENCE_SECONDS
from tool_agent import Agent, records

from epad.ledger.record import ToolClosed, ToolOpened

TEN = (
    "file_list", "glob", "grep_recursive", "file_read", "file_wc", "hash_data", "file_write", "file_append",
    "text_diff", "file_copy",
)  # fmt: skip
# Answers of a daemon that is on its way down or up: the agent asks again.
AGAIN = {"ledger_unavailable", "no_worker", "worker_lost", "cancelled", "killed", "session_ended"}


def free_port() -> int:
    """A port that the daemon has again after each kill."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def next_step(number: int, results: list[dict[str, Any]]) -> tuple[str, dict[str, Any]] | None:
    """The call that the model wants after these results, in its round of this number; None when it is done."""
    report, text = f"report-{number}.md", "a TODO\nb\n"
    found = len(results[2].get("matches", ())) if len(results) > 2 else 0
    steps: list[dict[str, Any]] = [
        {},
        {"pattern": "*.txt"},
        {"pattern": "TODO"},
        {"path": "notes.txt"},
        {"path": "notes.txt"},
        {"path": "notes.txt"},
        {"path": report, "content": f"Round {number}: {found} to do.\n"},
        {"path": "log.txt", "content": f"round {number}\n"},
        {"a": text, "b": text + "c\n"},
        {"source": report, "destination": f"copy-{number}.md"},
    ]
    place = len(results)
    return (TEN[place], steps[place]) if place < len(steps) else None


class Script(BaseHTTPRequestHandler):
    """A model server that plays the script: it knows where it is by the conversation alone."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._say({"object": "list", "data": [{"id": "script", "object": "model", "owned_by": "us"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        messages = body["messages"]
        results = [json.loads(each["content"]) for each in messages if each["role"] == "tool"]
        wanted = next_step(int(messages[0]["content"].split()[-1]), results)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": None if wanted else "The report is written.",
        }
        if wanted is not None:
            function = {"name": wanted[0], "arguments": json.dumps(wanted[1])}
            message["tool_calls"] = [{"id": f"call-{len(results)}", "type": "function", "function": function}]
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if wanted else "stop"}
        usage = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
        head = {"id": "c", "object": "chat.completion", "created": 1, "model": "script"}
        self._say({**head, "choices": [choice], "usage": usage})

    def _say(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class ScriptServer(ThreadingHTTPServer):
    """Says nothing of a daemon that was killed in the middle."""

    def handle_error(self, request: object, client_address: object) -> None:
        del request, client_address


@contextlib.contextmanager
def model() -> Iterator[int]:
    server = ScriptServer(("127.0.0.1", 0), Script)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Worker:
    """Does the job round by round until it is told to stop, whatever becomes of the daemon."""

    def __init__(self, door: Path, url: str, key: str) -> None:
        self.agent = Agent(door)
        self.stopping = threading.Event()
        self.done: list[int] = []
        self.errors: list[BaseException] = []
        self.deadline = time.monotonic() + 100 * PATIENCE_SECONDS
        self.model = openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=60)
        self.thread = threading.Thread(target=self._work)

    def _work(self) -> None:
        try:
            number = 0
            while not self.stopping.is_set():
                number += 1
                self._round(number)
                self.done.append(number)
        except BaseException as error:
            self.errors.append(error)
        finally:
            self.model.close()

    def _round(self, number: int) -> None:
        messages: list[Any] = [{"role": "user", "content": f"Write the report of round {number}"}]
        tools: list[Any] = [{"type": "function", "function": {"name": name}} for name in TEN]
        while True:
            answer = self._asked(messages, tools)
            messages.append(answer.model_dump(exclude_none=True))
            if not answer.tool_calls:
                assert [each["role"] for each in messages].count("tool") == len(TEN)
                return
            for call in answer.tool_calls:
                content = self._called(call.function.name, json.loads(call.function.arguments))
                messages.append({"role": "tool", "tool_call_id": call.id, "content": json.dumps(content)})

    def _asked(self, messages: list[Any], tools: list[Any]) -> Any:
        while True:
            try:
                made = self.model.chat.completions.create(model="script", messages=messages, tools=tools)
                return made.choices[0].message
            except openai.APIError:
                self._wait_a_little()

    def _called(self, name: str, arguments: dict[str, Any]) -> Any:
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                answer = self.agent.call(name, **arguments)
                if answer.get("reason_code", "none") not in AGAIN and "content" in answer:
                    return answer["content"]
            self._wait_a_little()

    def _wait_a_little(self) -> None:
        assert time.monotonic() < self.deadline, "the daemon does not come back"
        time.sleep(0.05)


def campaign(directory: Path, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    workspace, door = directory / "work", directory / "door"
    workspace.mkdir()
    (workspace / "notes.txt").write_text("one TODO\ntwo\nthree TODO\n")
    (workspace / "log.txt").write_text("")
    gateway = free_port()
    quick = QUICK.replace("127.0.0.1:0", f"127.0.0.1:{gateway}", 1)
    with model() as port:
        table = (
            f'[upstreams.here]\nurl = "http://127.0.0.1:{port}"\ndialects = ["openai"]\n'
            '[containment]\noperator = "block"\n[tools]\nenabled = true\ncalls_per_minute = 0\n'
            f'[subsystems.agent]\nkind = "client"\nworking_directory = "{workspace}"\n'
            f'listen = "unix:{door}"\n'
        )
        with installation(quick + table) as house:
            house.start()
            key = (house.state / "keys/agent.key").read_text().strip()
            worker = Worker(door, f"http://127.0.0.1:{gateway}/v1", key)
            worker.thread.start()
            try:
                house.wait(lambda: worker.done or worker.errors, "a first round")
                for _ in range(kills):
                    time.sleep(chance.uniform(0.0, 0.6))
                    house.kill()
                    house.start()
                before = len(worker.done)
                house.wait(lambda: len(worker.done) > before or worker.errors, "a round after the last kill")
            except BaseException:
                worker.deadline = 0.0  # nobody waits for a daemon that does not come back
                raise
            finally:
                worker.stopping.set()
                worker.thread.join()
            assert worker.errors == [], f"seed {seed}"
            house.wait(lambda: settled(house), "every end to be recorded")
            assert house.stop() == 0
            judge(house, workspace, worker.done, seed)
            plant(house, workspace, worker.done, seed)


def plant(house: Installation, workspace: Path, done: list[int], seed: int) -> None:
    """Make what no call has made, one after the other: the judge sees each of them."""
    log = workspace / "log.txt"
    lines = log.read_text()
    planted = {
        "report-0.md": "Round 0: 2 to do.\n",
        "copy-0.md": "Round 0: 2 to do.\n",
        "log.txt": lines + lines * len(records(house)),
    }
    for name, text in planted.items():
        path = workspace / name
        before = path.read_text() if path.exists() else None
        path.write_text(text)
        with pytest.raises(AssertionError):
            judge(house, workspace, done, seed)
        path.unlink() if before is None else path.write_text(before)
    (workspace / f"report-{done[0]}.md").unlink()
    with pytest.raises(AssertionError):
        judge(house, workspace, done, seed)


def settled(house: Installation) -> bool:
    """Whether each call of the present run has its end: those of earlier ones may have none for ever."""
    found = records(house)
    ended = {each.turn for each in found if isinstance(each, ToolClosed)}
    opened = [each for each in found if isinstance(each, ToolOpened)]
    return all(each.turn in ended for each in opened if each.epoch == opened[-1].epoch)


def judge(house: Installation, workspace: Path, done: list[int], seed: int) -> None:
    """Each effect has the record of a call that could have made it, and no call has two records of a kind."""
    found = records(house)
    opened = [each for each in found if isinstance(each, ToolOpened)]
    closed = [each for each in found if isinstance(each, ToolClosed)]
    assert max(Counter(each.turn for each in opened).values()) == 1, f"seed {seed}"
    assert max(Counter(each.turn for each in closed).values()) == 1, f"seed {seed}"
    assert {each.turn for each in closed if each.outcome != "refused"} <= {each.turn for each in opened}

    asked = Counter((each.tool, each.arguments_sha256) for each in opened)
    for path in workspace.glob("report-*.md"):
        number, text = path.stem.partition("-")[2], path.read_text()
        assert text == f"Round {number}: 2 to do.\n", f"seed {seed}"
        assert asked["file_write", digest(path=path.name, content=text)] > 0, f"seed {seed}"
    for path in workspace.glob("copy-*.md"):
        source = path.name.replace("copy", "report")
        assert asked["file_copy", digest(source=source, destination=path.name)] > 0, f"seed {seed}"
    for line, count in Counter((workspace / "log.txt").read_text().splitlines(keepends=True)).items():
        assert count <= asked["file_append", digest(path="log.txt", content=line)], f"seed {seed}"
    for finished in done:
        assert (workspace / f"report-{finished}.md").exists(), f"seed {seed}"
        assert (workspace / f"copy-{finished}.md").exists(), f"seed {seed}"


def digest(**arguments: object) -> bytes:
    return sha256(msgspec.json.encode(arguments, order="sorted")).digest()


def test_a_job_survives_a_few_kills(tmp_path: Path) -> None:
    """Each report is whole, each line of the log has its record, and the job goes on after the last one."""
    campaign(tmp_path, kills=3, seed=random.randrange(1 << 30))


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_job_survives_two_hundred_kills(tmp_path: Path) -> None:
    """The same, long enough to hit what a few miss."""
    campaign(tmp_path, kills=200, seed=random.randrange(1 << 30))
