"""`epad check --try` with real commands: what is said of each, and that nothing is left behind or touched."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from installed import EPAD, QUICK, Installation, installation

READY = (
    "import os, socket, time; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM);"
    "s.sendto(b'READY=1', os.environ['NOTIFY_SOCKET']); time.sleep(600)"
)
SERVES = "import sys, http.server as h; h.HTTPServer(('127.0.0.1', int(sys.argv[1])), h.SimpleHTTPRequestHandler).serve_forever()"  # noqa: E501


def python(source: str, *words: str) -> str:
    """A command as TOML."""
    return str([sys.executable, "-c", source, *words])


SLEEPS = python("import time; time.sleep(600)")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Place:
    """A configuration and a temporary directory of its own, in which what the command leaves is seen."""

    def __init__(self, directory: Path) -> None:
        self.state = directory / "state"
        self.config = directory / "epad.toml"
        self.temporary = directory / "tmp"
        self.temporary.mkdir()

    def write(self, text: str) -> None:
        self.config.write_text(f'[daemon]\nstate_directory = "{self.state}"\n{text}')

    def command(self, *words: str) -> list[str | Path]:
        return [EPAD, "check", "--try", "--config", self.config, *words]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "TMPDIR": str(self.temporary)}

    def run(self, *words: str) -> tuple[int, dict[str, str], str]:
        """Run it; the exit status, what is said of each subsystem, and all that was said."""
        done = subprocess.run(
            self.command(*words), env=self.environment(), capture_output=True, text=True, check=False
        )
        rows = [
            line.split(": ", 1)
            for line in done.stdout.splitlines()
            if line.startswith(("ok     ", "FAILED "))
        ]
        self.has_left_nothing()
        return done.returncode, dict(rows), done.stdout + done.stderr

    def has_left_nothing(self) -> None:
        """No file, no process, and no state where the real one would be."""
        assert list(self.temporary.iterdir()) == []
        assert self.processes() == []
        assert not self.state.exists()

    def processes(self) -> list[int]:
        """The processes that were started from this temporary directory."""
        mark = f"EPAD_STATE={self.temporary}/".encode()
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and mark in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
        return found


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with installation() as short:  # a path in which a socket's fits
        yield Place(short.directory)


def test_what_is_good_is_told_by_its_own_check(place: Place) -> None:
    """READY=1, a passed check, or no check at all; a job that ends well; and what epad does not start."""
    port = free_port()
    place.write(
        f"[subsystems.says]\ncommand = {python(READY)}\nnotifies = true\n"
        f"[subsystems.serves]\ncommand = {python(SERVES, str(port))}\n"
        f'health = {{ http = "http://127.0.0.1:{port}/" }}\n'
        f'[subsystems.mute]\ncommand = {SLEEPS}\ndepends_on = ["says"]\n'
        f"[subsystems.job]\ncommand = {python('print(1)')}\n"
        '[subsystems.notebook]\nkind = "client"\n[subsystems.models]\nkind = "unit"\nunit = "ollama.service"\n'
    )
    status, said, output = place.run("--seconds", "60")
    assert status == 0, output
    assert said == {
        "ok     says": "ready: it said READY=1",
        "ok     serves": f"ready: its check passes (http://127.0.0.1:{port}/)",
        "ok     mute": "runs; it has no check of its own",
        "ok     job": said["ok     job"],
        "ok     notebook": "not tried: it is not epad that starts it",
        "ok     models": "not tried: ollama.service is systemd's",
    }
    assert said["ok     job"].startswith("ended by itself: exit 0 after ")


def test_each_way_to_fail_is_told(place: Place) -> None:
    """Whatever is wrong with one, the others are tried; what waits for a failed one says so."""
    dies = "import sys; print('half a word'); sys.exit('no such model: tiny')"
    place.write(
        f"[subsystems.dies]\ncommand = {python(dies)}\n"
        '[subsystems.missing]\ncommand = ["no-such-program-anywhere"]\n'
        '[subsystems.elsewhere]\ncommand = ["true"]\nworking_directory = "/nonexistent"\n'
        f"[subsystems.never]\ncommand = {SLEEPS}\nnotifies = true\nready_seconds = 1.0\n"
        f"[subsystems.slow]\ncommand = {SLEEPS}\nnotifies = true\n"
        f"[subsystems.deaf]\ncommand = {SLEEPS}\nready_seconds = 1.0\n"
        f'health = {{ tcp = "127.0.0.1:{free_port()}" }}\n'
        f'[subsystems.ever]\ncommand = {python("print(1)")}\nrestart = {{ policy = "always" }}\n'
        '[subsystems.waits]\ncommand = ["true"]\ndepends_on = ["never"]\n'
        f"[subsystems.fine]\ncommand = {SLEEPS}\n"
    )
    status, said, output = place.run("--seconds", "2")
    assert status == 1
    assert said.pop("ok     fine"), output
    assert all(key.startswith("FAILED ") for key in said)
    found = {key.removeprefix("FAILED "): text for key, text in said.items()}
    assert found["dies"].startswith("ended: exit 1 after ")
    assert "       | half a word\n       | no such model: tiny\n" in output
    assert "command 'no-such-program-anywhere' is not found" in found["missing"]
    assert "epad.toml:6: subsystems.missing.command: names no-such-program-anywhere" in output
    assert "directory /nonexistent: No such file or directory" in found["elsewhere"]
    assert found["never"] == "not ready: no READY=1 within 1 s: see subsystems.never.ready_seconds"
    assert found["slow"] == "not ready: no READY=1 within 2 s; it may take 30: try --seconds 30"
    assert found["deaf"].startswith("not ready: its check did not pass (")
    assert "it would be started for ever" in found["ever"]
    assert found["waits"] == "not started: it waits for never"


@pytest.fixture
def running() -> Iterator[tuple[Installation, int]]:
    """A daemon with a subsystem that holds a port."""
    with installation() as house:
        port = free_port()
        house.config.write_text(
            QUICK
            + f"[subsystems.server]\ncommand = {python(SERVES, str(port))}\ngateway = false\n"
            + f'health = {{ tcp = "127.0.0.1:{port}" }}\n'
        )
        house.start()
        house.wait(lambda: house.subsystem("server")["state"] == "running", "the server")
        yield house, port
        assert house.stop() == 0


@pytest.mark.parametrize("checked", [True, False])
def test_a_port_that_the_running_daemons_child_holds(
    running: tuple[Installation, int], place: Place, *, checked: bool
) -> None:
    """Its check would be answered by the other; without one it dies of the port. The holder is named and let be."""
    house, port = running
    pid, files = house.subsystem("server")["pid"], sorted(path.name for path in house.state.iterdir())
    health = (
        f'health = {{ tcp = "127.0.0.1:{port}" }}\n' if checked else "notifies = true\n"
    )  # and has its time
    place.state = house.state
    place.write(f"[subsystems.server]\ncommand = {python(SERVES, str(port))}\n{health}")
    done = subprocess.run(
        place.command(), env=place.environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stdout
    assert f"pid {pid} is the server of the daemon that runs: `epactl stop server`" in done.stdout
    assert (
        "its check passes already" if checked else "| OSError: [Errno 98] Address already in use"
    ) in done.stdout
    assert list(place.temporary.iterdir()) == []
    assert place.processes() == []
    assert (house.subsystem("server")["pid"], house.status()["phase"]) == (pid, "NORMAL")
    assert sorted(path.name for path in house.state.iterdir()) == files


ASKS = """
import os, pathlib, anthropic, ollama, openai
client = openai.OpenAI()
hi = [{"role": "user", "content": "hi"}]
stream = client.chat.completions.create(model="m", messages=hi, stream=True)
said = [
    client.chat.completions.create(model="m", messages=hi).choices[0].message.content,
    "".join(chunk.choices[0].delta.content for chunk in stream if chunk.choices),
    client.completions.create(model="m", prompt="hi").choices[0].text,
    client.responses.create(model="m", input="hi").output_text,
    ollama.Client().chat(model="l", messages=hi).message.content,
    "".join(part.response for part in ollama.Client().generate(model="l", prompt="hi", stream=True)),
    anthropic.Anthropic().messages.create(model="c", max_tokens=9, messages=hi).content[0].text,
]
with anthropic.Anthropic().messages.stream(model="c", max_tokens=9, messages=hi) as stream:
    said.append(stream.get_final_text())
assert len(client.embeddings.create(model="m", input="hi", encoding_format="float").data) == 1
pathlib.Path(os.environ["FOUND"]).write_text("\\n".join(said + [os.environ["GATEWAY"]]))
"""


def test_no_model_is_asked_and_the_stub_answers_in_every_dialect(place: Place) -> None:
    """What the clients of three makers read; the upstream, its key and the real gateway's address are not touched."""
    found, key = place.config.with_name("found"), place.config.with_name("key")
    key.write_text("sk-real")
    key.chmod(0o400)
    with socket.create_server(("127.0.0.1", 0)) as upstream, socket.create_server(("127.0.0.1", 0)) as real:
        port, gateway = upstream.getsockname()[1], real.getsockname()[1]
        upstreams = "".join(
            f'[upstreams.{name}]\nurl = "http://127.0.0.1:{port}"\ndialects = ["{dialect}"]\nmodels = ["{model}"]\n'
            f'api_key_file = "{key}"\n'
            for name, dialect, model in (("a", "openai", "m"), ("b", "ollama", "l"), ("c", "anthropic", "c"))
        )
        place.write(
            f'[gateway]\nlisten = "127.0.0.1:{gateway}"\n{upstreams}'
            f"[subsystems.asks]\ncommand = {[sys.executable, str(place.config.with_name('asks.py'))]}\n"
            "notifies = true\nready_seconds = 60.0\n"  # it never says so, and has its time
            f'environment = {{ FOUND = "{found}", GATEWAY = "http://localhost:{gateway}/v1" }}\n'
        )
        place.config.with_name("asks.py").write_text(ASKS)
        status, said, output = place.run("--seconds", "60")
        assert status == 0, output
        assert said["ok     asks"].startswith("ended by itself: exit 0"), output
        for listener in (upstream, real):
            listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                listener.accept()
    *answers, address = found.read_text().splitlines()
    assert set(answers) == {"This is epad check --try: no model was asked."}
    assert len(answers) == 8
    assert address.startswith("http://127.0.0.1:")
    assert f":{gateway}" not in address


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_ends_it_early_leaves_nothing_either(place: Place, number: signal.Signals) -> None:
    """Children that ignore SIGTERM are ended too."""
    up = place.config.with_name("up")
    deaf = f"import signal, time; signal.signal(15, 1); open({str(up)!r}, 'w'); time.sleep(600)"
    place.write(f"[subsystems.deaf]\ncommand = {python(deaf)}\nnotifies = true\nstop_seconds = 0.2\n")
    process = subprocess.Popen(place.command(), env=place.environment(), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not up.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert len(place.processes()) == 1
    process.send_signal(number)
    assert process.wait(60) == 130
    place.has_left_nothing()


def test_the_embedded_default_can_be_tried(place: Place) -> None:
    """With its own model server, which is no model of anybody's."""
    place.write("")
    status, said, output = place.run("--seconds", "60")
    assert status == 0, output
    assert {key.split()[1] for key in said} == {"model", "wargame", "chat"}


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_a_time_that_is_none_is_a_wrong_command_line(place: Place, seconds: str) -> None:
    """Exit status 2, as for every other."""
    place.write("")
    status, _, output = place.run(f"--seconds={seconds}")
    assert (status, "--seconds" in output) == (2, True), output
