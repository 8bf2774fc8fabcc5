"""A model server that is down in any way holds nobody; and when it is back, its clients are served without an order."""

from __future__ import annotations

import json
import socket
import sys
import time
from functools import partial

import pytest
from installed import QUICK, Installation, installation
from patience import PATIENCE_SECONDS
from sick_server import AGENT, ANSWER, LIMIT_SECONDS, SickServer, asked

AGENTS = ("one", "two")
CONFIG = """
[upstreams.vllm]
url = "http://127.0.0.1:{port}"
dialects = ["openai"]
[subsystems.one]
command = {one}
[subsystems.two]
command = {two}
[subsystems.bystander]
command = ["sleep", "900"]
"""
STATES = {
    "refused": "gone", "401": "rejecting", "403": "rejecting", "404": "well", "429": "limiting", "500": "failing",
    "503": "failing", "loading": "loading", "hang": "failing",
}  # fmt: skip
OUTAGE_SECONDS = 15.0
# A loaded machine answers late: what is asserted is that nobody has to do anything, not how fast this machine is.


def configure(house: Installation, server: SickServer) -> None:
    script = house.directory / "agent.py"
    script.write_text(AGENT)
    commands = {
        name: json.dumps([sys.executable, str(script), "0.5", "5", str(house.directory / f"{name}.log")])
        for name in AGENTS
    }
    house.config.write_text(QUICK + CONFIG.format(port=server.port, **commands))


def served_after(house: Installation, name: str, at: float) -> list[float]:
    """How long after a moment each answer came that was an answer."""
    answers = asked(house.directory / f"{name}.log")
    return [float(each["ended"]) - at for each in answers if each["status"] == 200]


@pytest.mark.slow
@pytest.mark.parametrize("looks_well", [False, True])
@pytest.mark.parametrize("kind", STATES)
def test_a_sick_upstream_holds_nobody_and_comes_back_by_itself(kind: str, *, looks_well: bool) -> None:
    """Whatever it answers, and whether or not its other routes say that all is well."""
    if looks_well and kind in {"refused", "loading", "hang"}:
        pytest.skip("its other routes do not answer well then")
    server = SickServer(kind, looks_well=looks_well)
    try:
        with installation() as house:
            configure(house, server)
            house.start()
            time.sleep(OUTAGE_SECONDS)
            status = house.status()
            [upstream] = status["upstreams"]
            assert (upstream["state"], status["phase"], status["anomalies"]) == (STATES[kind], "NORMAL", [])
            assert {s["state"] for s in status["subsystems"]} == {"running"}
            if kind != "404":
                assert "vllm" in house.ctl("status").stdout
                refusals = [
                    each for each in asked(house.directory / "one.log") if each["status"] in {429, 503}
                ]
                assert any("upstream vllm" in str(each["said"]) for each in refusals)
                assert all(each["retry_after"] for each in refusals if "upstream vllm" in str(each["said"]))
            back = server.recover()
            for name in AGENTS:
                house.wait(partial(served_after, house, name, back), "an answer", PATIENCE_SECONDS)
            print(kind, looks_well, {name: round(served_after(house, name, back)[0], 2) for name in AGENTS})
            time.sleep(3)
            status = house.status()
            assert status["upstreams"][0]["state"] == "well"
            assert (status["phase"], status["anomalies"], status["incidents"]) == ("NORMAL", [], [])
            assert house.events("anomaly.raised") == []
            assert [
                e["fields"] for e in house.events("phase.changed") if e["fields"].get("to") != "NORMAL"
            ] == []
            last = asked(house.directory / "one.log")[-1]
            assert last["status"] == 200
            assert house.stop() == 0
    finally:
        server.close()


@pytest.mark.slow
def test_a_limit_is_asked_again_when_it_said_so_and_not_before() -> None:
    """Epad answers 429 itself meanwhile, with what is left of the time."""
    server = SickServer("429")
    try:
        with installation() as house:
            configure(house, server)
            house.start()
            house.wait(lambda: len(asked(house.directory / "one.log")) >= 12, "twelve questions")
            seconds = time.time() - float(asked(house.directory / "one.log")[0]["at"])
            assert server.turns <= 2 + seconds / LIMIT_SECONDS * 2
            waits = [str(each["retry_after"]) for each in asked(house.directory / "one.log")]
            assert {wait for wait in waits if wait != "None"} <= {"1", "2", "3"}
            assert house.stop() == 0
    finally:
        server.close()


SLOW_MODEL = """
import json, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Model(BaseHTTPRequestHandler):
    def log_message(self, *_): ...
    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length") or 0))
        body = json.dumps(%(answer)r).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_GET = do_POST

time.sleep(float(sys.argv[2]))
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Model).serve_forever()
"""
SERVED = """
[upstreams.vllm]
url = "http://127.0.0.1:{port}"
dialects = ["openai"]
served_by = "model"
[subsystems.model]
command = {model}
gateway = false
[subsystems.one]
command = {one}
[subsystems.two]
command = {two}
[subsystems.bystander]
command = ["sleep", "900"]
"""


@pytest.mark.slow
def test_a_model_server_of_epads_own_that_loads_is_left_alone() -> None:
    """No health check, no depends_on: for as long as its model may take, a port that is shut is nobody's trouble."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with installation() as house:
        (house.directory / "model.py").write_text(SLOW_MODEL % {"answer": ANSWER})
        (house.directory / "agent.py").write_text(AGENT)
        python, at = sys.executable, house.directory
        commands = {
            name: json.dumps([python, str(at / "agent.py"), "0.5", "5", str(at / f"{name}.log")])
            for name in AGENTS
        }
        model = json.dumps([python, str(at / "model.py"), str(port), str(OUTAGE_SECONDS)])
        house.config.write_text(QUICK + SERVED.format(port=port, model=model, **commands))
        house.start()
        began = time.time()
        while time.time() < began + OUTAGE_SECONDS - 5:
            status = house.status()
            assert (status["phase"], status["anomalies"]) == ("NORMAL", [])
            assert {s["state"] for s in status["subsystems"]} <= {"running", "starting"}, (
                house.log.read_text()
            )
            time.sleep(1)
        assert house.status()["upstreams"][0]["state"] == "loading"
        assert "has just begun" in house.status()["upstreams"][0]["reason"]
        for name in AGENTS:
            house.wait(
                partial(served_after, house, name, began),
                "an answer",
                OUTAGE_SECONDS + PATIENCE_SECONDS,
            )
        assert house.events("anomaly.raised") == []
        assert house.stop() == 0
