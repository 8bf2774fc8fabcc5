"""Serve the tools of some categories: a warm process that forks for every call.

The input and the output are frames (`frames.py`); many calls run at once, answered in the order in which they end:

    {"id": 7, "tool": "file_read", "arguments": {...}, "timeout": 5, "output_bytes": 65536, "turn": "..."}
    {"id": 7, "result": {...}, "cpu_ms": 1.2, "wall_ms": 3.4, "effects": [[path, before, after]]}
    {"id": 7, "error": "...", "hint": "...", "ended": "error" | "timeout" | "cancelled" | "killed", ...}
    {"cancel": 7}             kills the call, which is answered as cancelled
    {"id": 8, "health": true} tells the tools and the walls that this kernel lacks
    {"id": 9, "undo": "TURN"} puts before-images of that call back; `"only": "look"` and `"tidy"` do less (undoing.py)

A call's state is its process: running until its pipe ends, then reaped, then answered, once. Timeout and cancel are
SIGKILL to the process group of that call, so a FIFO, a regular expression or a network mount holds nothing else. The
end of the input kills all calls and ends the worker. Nothing is parsed here but requests: input of tools is read by
their own processes only.
"""

from __future__ import annotations

import gc
import os
import selectors
import signal
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import msgspec

from runners.tools import call, catalogue, program_paths, sandbox, undoing
from runners.tools.browser_process import BrowserProcess
from runners.tools.catalogue import Tool
from runners.tools.frames import FrameError, Reader, Request, frame, parse
from runners.tools.signature import Address

BROWSER: Final = "browser"
"""The category whose calls use a process that outlives them."""
MOST_RUNNING: Final = 32
MOST_WAITING: Final = 256
MOST_ANSWER_BYTES: Final = 8 << 20
_READ_BYTES: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class Settings:
    """Holds what a worker is started with."""

    categories: tuple[str, ...]
    root: str = ""
    undo: str = ""
    socket: int = -1
    unsandboxed: bool = False
    way_out: Address | None = None


@dataclass(slots=True)
class Running:
    """Holds one call in progress: its process, the pipe of its answer, and why it was killed, if it was."""

    request: Request
    tool: Tool
    pid: int
    pipe: int
    began: float
    deadline: float
    said: bytearray = field(default_factory=bytearray)
    ended: str = ""


class Worker:
    """Serves requests from one descriptor and answers on another."""

    def __init__(self, settings: Settings, incoming: int, outgoing: int) -> None:
        self._settings = settings
        self._tools = catalogue.load(settings.categories)
        self._programs = {name: programs_of(name) for name in settings.categories}
        self._root = _directory(settings.root)
        self._undo = _directory(settings.undo)
        self._incoming, self._outgoing = incoming, outgoing
        self._reader = Reader()
        self._waiting: deque[Request] = deque()
        self._running: dict[int, Running] = {}
        self._out = bytearray()
        self._selector = selectors.DefaultSelector()
        self._filtered = False
        self._has_browser = BROWSER in settings.categories
        self._browser = BrowserProcess(settings.way_out)

    def serve(self) -> None:
        """Serve until the input ends; then no process of a call is left."""
        for descriptor in (self._incoming, self._outgoing):
            os.set_blocking(descriptor, False)
        sockets = not catalogue.SOCKETS.isdisjoint(self._settings.categories)
        # A browser needs system calls that no call may make: its worker's calls are filtered one by one.
        self._filtered = not self._has_browser and sandbox.filter_system_calls(unix_sockets=sockets)
        sandbox.prepare()
        self._selector.register(self._incoming, selectors.EVENT_READ)
        gc.collect()
        gc.freeze()  # a collection in a child would copy every page of the modules
        try:
            while self._turn():
                pass
        finally:
            for running in list(self._running.values()):
                self._kill(running, "cancelled")
                self._reap(running)
            self._browser.kill()

    def _turn(self) -> bool:
        """Do all that is due now. Returns False when the input has ended."""
        for key, _ in self._selector.select(self._patience()):
            if key.fd == self._incoming:
                if not self._read():
                    return False
            elif key.fd == self._outgoing:
                self._flush()
            else:
                self._hear(key.data)
        now = time.monotonic()
        for running in [each for each in self._running.values() if now >= each.deadline and not each.ended]:
            self._kill(running, "timeout")
        while self._waiting and len(self._running) < MOST_RUNNING:
            self._start(self._waiting.popleft())
        return True

    def _patience(self) -> float | None:
        deadlines = [running.deadline for running in self._running.values() if not running.ended]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _read(self) -> bool:
        try:
            data = os.read(self._incoming, _READ_BYTES)
        except BlockingIOError:
            return True
        except ConnectionError:
            return False
        for body in self._reader.feed(data):
            try:
                if isinstance(body, FrameError):
                    raise body
                self._take(parse(body))
            except FrameError as error:
                self._say(
                    {
                        "id": error.id,
                        "error": str(error),
                        "hint": "see runners/tools/worker.py",
                        "ended": "error",
                    }
                )
        return bool(data)

    def _take(self, request: Request) -> None:
        if request.cancel is not None:
            self._cancel(request.cancel)
        elif request.health:
            self._say({"id": request.id, "result": self._health()})
        elif (
            request.id < 0
            or request.id in self._running
            or any(each.id == request.id for each in self._waiting)
        ):
            raise FrameError("a request has an id of its own, zero or more", request.id)
        elif request.tool not in self._tools and not request.undo:
            known = ", ".join(sorted(self._tools))
            self._refuse(
                request, f"there is no tool {request.tool!r} in this worker", f"its tools are {known}"
            )
        elif len(self._waiting) >= MOST_WAITING:
            self._refuse(
                request, f"{MOST_WAITING} calls wait already", "wait for an answer before the next call"
            )
        else:
            self._waiting.append(request)

    def _health(self) -> dict[str, Any]:
        missing = sandbox.missing_walls() + ([] if self._filtered or self._has_browser else ["syscalls"])
        lacking = [name for name, found in self._programs.items() if name in catalogue.PROGRAMS and not found]
        return {"tools": sorted(self._tools), "missing_walls": missing, "missing_programs": lacking}

    def _cancel(self, number: int) -> None:
        if number in self._running:
            self._kill(self._running[number], "cancelled")
            return
        for request in [each for each in self._waiting if each.id == number]:
            self._waiting.remove(request)
            self._refuse(request, f"{request.tool} was cancelled before it began", "", ended="cancelled")

    def _start(self, request: Request) -> None:
        tool = undoing.TOOL if request.undo else self._tools[request.tool]
        allowed = min(request.timeout, tool.meta.timeout) if request.timeout > 0 else tool.meta.timeout
        risk, way_out = tool.meta.risk, self._settings.way_out
        ports = (way_out[1],) if way_out is not None and risk in sandbox.USES_NETWORK else ()
        category = tool.category
        if category == BROWSER:
            self._browser.go_on()
            ports = (self._browser.port,)
        need = sandbox.Need(
            risk,
            self._root,
            self._undo,
            self._programs.get(category, ()),
            allowed,
            ports,
            catalogue.READS.get(category, ()),
            catalogue.DEVICES.get(category, ()),
        )
        reading, writing = os.pipe()
        parent, now = os.getpid(), time.monotonic()
        pid = os.fork()
        if pid == 0:
            around = call.Surroundings(
                self._root,
                self._undo,
                writing,
                self._settings.unsandboxed,
                way_out,
                self._browser.place,
                not self._has_browser,
            )
            call.run(request, tool, need, around, parent)
        os.close(writing)
        os.set_blocking(reading, False)
        with suppress(
            OSError
        ):  # the child does the same: whoever is first, the group is there when it is killed
            os.setpgid(pid, pid)
        running = Running(request, tool, pid, reading, now, now + allowed)
        self._running[request.id] = running
        self._selector.register(reading, selectors.EVENT_READ, running)

    def _hear(self, running: Running) -> None:
        try:
            data = os.read(running.pipe, _READ_BYTES)
        except BlockingIOError:
            return
        running.said += data
        if len(running.said) > MOST_ANSWER_BYTES:
            self._kill(running, "killed")
        if not data:
            self._finish(running)

    def _kill(self, running: Running, reason: str) -> None:
        running.ended = running.ended or reason
        for kill in (partial(os.killpg, running.pid), partial(os.kill, running.pid)):
            with suppress(ProcessLookupError):
                kill(signal.SIGKILL)

    def _reap(self, running: Running) -> tuple[int, float]:
        """Wait for a call's process, and return its status and the processor time of its tree in milliseconds."""
        with suppress(ProcessLookupError):  # git may have left a process
            os.killpg(running.pid, signal.SIGKILL)
        _, status, usage = os.wait4(running.pid, 0)
        self._selector.unregister(running.pipe)
        os.close(running.pipe)
        del self._running[running.request.id]
        if not any(each.tool.category == BROWSER for each in self._running.values()):
            self._browser.stop()
        return status, 1000 * (usage.ru_utime + usage.ru_stime)

    def _finish(self, running: Running) -> None:
        status, cpu = self._reap(running)
        effects, answer, whole = parts(bytes(running.said))
        if running.ended or answer is None:
            answer = msgspec.json.encode(_end_of(running, status))
        elif answer[0] == ord("r"):
            answer = b'{"result":' + answer[1:] + b"}"
        else:
            answer = b'{"ended":"error",' + answer[2:]
        wall = 1000 * (time.monotonic() - running.began)
        tail = f',"cpu_ms":{cpu:.3f},"wall_ms":{wall:.3f},"effects":[{",".join(effects)}]}}'
        kept = b',"whole":' + whole if whole and not running.ended else b""
        self._send(f'{{"id":{running.request.id},'.encode() + answer[1:-1] + kept + tail.encode())

    def _refuse(self, request: Request, error: str, hint: str, *, ended: str = "error") -> None:
        told = {"id": request.id, "error": error, "hint": hint, "ended": ended}
        self._say({**told, "cpu_ms": 0.0, "wall_ms": 0.0, "effects": []})

    def _say(self, message: dict[str, Any]) -> None:
        self._send(msgspec.json.encode(message))

    def _send(self, body: bytes) -> None:
        self._out += frame(body)
        self._flush()

    def _flush(self) -> None:
        """Write what can be written now; the rest when the reader has read, so that a slow reader stops no clock."""
        with suppress(BlockingIOError):
            while self._out:
                del self._out[: os.write(self._outgoing, self._out)]
        listening = self._outgoing in self._selector.get_map()
        if self._out and not listening:
            self._selector.register(self._outgoing, selectors.EVENT_WRITE)
        elif listening and not self._out:
            self._selector.unregister(self._outgoing)


def parts(said: bytes) -> tuple[list[str], bytes | None, bytes]:
    """Return a call's effects as JSON, its answer with the byte of its kind, and the whole of one that was cut.

    The answer is None if it has not come whole.
    """
    effects: list[str] = []
    whole = b""
    at = 0
    while at + call.PART.size <= len(said):
        kind, size = call.PART.unpack_from(said, at)
        body = said[at + call.PART.size : at + call.PART.size + size]
        at += call.PART.size + size
        if len(body) < size:
            break
        if kind == call.WHOLE:
            whole = body
        elif kind == b"e":
            effects.append(body.decode())
        else:
            return effects, kind + body, whole
    return effects, None, b""


def _end_of(running: Running, status: int) -> dict[str, str]:
    """Return the answer of a call that has given none."""
    name, seconds = running.tool.meta.name, running.deadline - running.began
    if running.ended == "timeout":
        return {"error": f"{name} was ended after {seconds:g} s", "hint": "ask for less", "ended": "timeout"}
    if running.ended == "cancelled":
        return {"error": f"{name} was cancelled", "hint": "", "ended": "cancelled"}
    if running.ended == "killed":
        return {
            "error": f"{name} gave over {MOST_ANSWER_BYTES} bytes",
            "hint": "ask for less",
            "ended": "killed",
        }
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if number == signal.SIGXCPU:
        return {"error": f"{name} used up its processor time", "hint": "ask for less", "ended": "timeout"}
    how = f"by {signal.Signals(number).name}" if number else f"with status {os.WEXITSTATUS(status)}"
    return {
        "error": f"the process of {name} ended {how}",
        "hint": "a smaller input may fit",
        "ended": "killed",
    }


def programs_of(category: str) -> tuple[str, ...]:
    """Return the files that a category's calls may execute."""
    name = catalogue.PROGRAMS.get(category, "")
    found = program_paths.find(name) if name else ""
    return tuple(dict.fromkeys((found, *_helpers(category)))) if found else ()


def _helpers(category: str) -> tuple[str, ...]:
    return ("/usr/lib/git-core/git",) if category == "git" else ()


def _directory(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) if path else -1


def serve(settings: Settings) -> None:
    """Serve on an inherited socket, or on standard input and output. Raises OSError and ValueError at the start."""
    if settings.socket >= 0:
        incoming, outgoing = settings.socket, os.dup(settings.socket)
    else:
        incoming, outgoing = os.dup(0), os.dup(1)
        os.dup2(2, 1)  # a stray print goes to the log, and not between two frames
    Worker(settings, incoming, outgoing).serve()
