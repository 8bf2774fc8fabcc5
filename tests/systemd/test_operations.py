"""Every operation of the installed daemon, inside its unit with all filters on, by everybody who may ask for it.

What is seen is the table of docs/operations.md.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
from systemd_box import BIN, ROOT, SystemdBox, systemd_box

from epad.gate.risk import Risk
from epad.operations.registry import Operation

CALLER = """
import json, os, sys, time, urllib.request
body = json.dumps({"model": sys.argv[1], "max_tokens": 5, "messages": [{"role": "user", "content": "hello"}]}).encode()
head = {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "Content-Type": "application/json"}
request = urllib.request.Request(os.environ["OPENAI_BASE_URL"] + "/chat/completions", body, head)
try:
    print("answered", urllib.request.urlopen(request, timeout=30).status, flush=True)
except OSError as error:
    print("not answered", error, getattr(error, "read", str)(), flush=True)
time.sleep(100_000)
"""
MODEL = """
import http.server, json
MESSAGE = {"role": "assistant", "content": "hi"}
CHOICE = {"index": 0, "message": MESSAGE, "finish_reason": "stop"}
ANSWER = json.dumps({"choices": [CHOICE], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}).encode()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)
    def do_GET(self):
        self.send_error(404)
http.server.HTTPServer(("127.0.0.1", 9901), Handler).serve_forever()
"""
CONFIG = """
[control]
operator_group = "operators"
[gateway]
listen = "127.0.0.1:0"
[metrics]
listen = "127.0.0.1:9900"
[schedule]
restore_drill = "* * * * *"
[datastores.memory]
path = "/srv/memory.db"
[upstreams.model]
url = "http://127.0.0.1:9901"
dialects = ["openai"]
[subsystems.model]
command = ["python3", "/srv/model.py"]
gateway = false
health = { tcp = "127.0.0.1:9901" }
[subsystems.target]
command = ["sleep", "98765"]
[subsystems.guest]
kind = "client"
listen = "unix:/run/epad/guest.sock"
user = "visitor"
[subsystems.caller]
command = ["python3", "/srv/caller.py", "tiny"]
listen = "unix:/run/epad/caller.sock"
depends_on = ["model"]
"""
KNOCK = """
import http.client, json, socket, sys
body = json.dumps({"model": "tiny", "max_tokens": 5, "messages": [{"role": "user", "content": "hello"}]})
door = http.client.HTTPConnection(sys.argv[2], timeout=30)
if sys.argv[1]:
    door.sock = socket.socket(socket.AF_UNIX)
    try:
        door.sock.connect(sys.argv[1])
    except PermissionError:
        sys.exit(print(0))
door.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
print(door.getresponse().status)
"""
ASK_FOR_THE_DOCUMENT = """
from epad.api.client import ControlClient
print(ControlClient("/run/epad/control.sock").get("/v1/openapi.json")["openapi"])
"""
MAKE_MEMORY = "import sqlite3; d = sqlite3.connect('/srv/memory.db'); d.execute('CREATE TABLE t(a)')"
OPERATOR, OBSERVER = "overseer", "visitor"
WHO = ("root", "epad", OPERATOR, OBSERVER)
REFUSED = 5
DOCS = ROOT / "docs/operations.md"


@dataclass(frozen=True)
class Deed:
    """What is typed for an operation, what has to be done before it, and what puts things back."""

    command: Sequence[str]
    undo: Sequence[str] = ()
    before: Sequence[str] = ()
    after: Sequence[str] = ()


def order(*words: str) -> tuple[str, ...]:
    return (*words, "--reason", "a test")


DEEDS = {
    Operation.STATUS_READ: Deed(("status",)),
    Operation.PHASE_READ: Deed(("phase",)),
    Operation.EVENTS_READ: Deed(("events",)),
    Operation.EXPLAIN_READ: Deed(("explain", "target")),
    Operation.RECOVERY_READ: Deed(("recovery",)),
    Operation.BUDGETS_READ: Deed(("budget",)),
    Operation.CONFINE_DIFF_READ: Deed(("confine", "diff")),
    Operation.APPROVALS_READ: Deed(("approvals",)),
    Operation.TOOLS_READ: Deed(("tools",)),
    Operation.AGENTS_READ: Deed(("agents",)),
    Operation.TOOLS_SERVERS_READ: Deed(("tools", "servers")),
    Operation.TOOLS_DIFF_READ: Deed(("tools", "diff", "github")),
    Operation.ACCEPT_TOOLS: Deed(order("tools", "accept", "github", "--yes")),
    Operation.TRACE_READ: Deed(("trace", "target")),
    Operation.UNDO_PLAN_READ: Deed(order("undo", "0" * 32, "--dry-run")),
    Operation.UNDO: Deed(order("undo", "0" * 32, "--yes")),
    Operation.APPROVE: Deed(order("approve", "1")),
    Operation.DENY: Deed(order("deny", "1")),
    Operation.REVOKE_HOST: Deed(order("approvals", "revoke", "a.example")),
    Operation.LEARN: Deed(order("confine", "learn", "target", "--for", "1s")),
    Operation.CHANGES_READ: Deed(("changes", "list")),
    Operation.ACCEPT_CHANGE: Deed(order("changes", "accept", "target")),
    Operation.MEMORY_READ: Deed(("memory", "list")),
    Operation.MEMORY_VERIFY_READ: Deed(("memory", "verify")),
    Operation.IDENTITY_READ: Deed(("identity", "list")),
    Operation.IDENTITY_BUNDLE_READ: Deed(("identity", "bundle")),
    Operation.ROTATE_IDENTITY: Deed(order("identity", "rotate", "--yes")),
    Operation.PROMOTE_MEMORY: Deed(order("memory", "promote", "fact")),
    Operation.RETRACT_MEMORY: Deed(order("memory", "retract", "fact", "--yes")),
    Operation.SECRETS_READ: Deed(("secret", "list")),
    Operation.SET_SECRET: Deed(order("secret", "set", "token", "--for", "caller")),
    Operation.ROTATE_SECRET: Deed(order("secret", "rotate", "token")),
    Operation.BIND_SECRET: Deed(order("secret", "bind", "token", "--for", "caller")),
    Operation.TEST_SECRET: Deed(order("secret", "test", "token")),
    Operation.EXPORT_SECRET: Deed(order("secret", "export", "token", "--to", "/dev/shm/token", "--yes")),
    Operation.REMOVE_SECRET: Deed(order("secret", "remove", "token", "--yes")),
    Operation.UNLOCK_SECRETS: Deed(order("secret", "unlock")),
    Operation.VAULT_READ: Deed(("vault", "list")),
    Operation.VAULT_SHOW_READ: Deed(("vault", "show", "note.md")),
    Operation.VAULT_HISTORY_READ: Deed(("vault", "history", "note.md")),
    Operation.VAULT_VERIFY_READ: Deed(("vault", "verify")),
    Operation.ADD_DOCUMENT: Deed(order("vault", "add", "note.md", "/etc/hostname")),
    Operation.RETRACT_DOCUMENT: Deed(order("vault", "retract", "note.md", "--yes")),
    Operation.UNDO_DOCUMENT: Deed(order("vault", "undo", "note.md")),
    Operation.API_READ: Deed(()),
    Operation.LOGS_READ: Deed(("logs", "caller")),
    Operation.QUARANTINE: Deed(order("quarantine", "target"), order("release", "target")),
    Operation.RELEASE: Deed(
        order("release", "target"), before=order("quarantine", "target"), after=order("release", "target")
    ),
    Operation.PAUSE: Deed(order("pause", "target"), order("resume", "target")),
    Operation.RESUME: Deed(
        order("resume", "target"), before=order("pause", "target"), after=order("resume", "target")
    ),
    Operation.RESTART: Deed(order("restart", "target")),
    Operation.STOP: Deed(order("stop", "target"), order("start", "target")),
    Operation.RELOAD: Deed(("reload",)),
    Operation.FORCE_PHASE: Deed(order("phase", "--force", "NORMAL")),
    Operation.LIFEBOAT: Deed(order("lifeboat", "enter", "--yes"), order("lifeboat", "relaunch")),
    Operation.RELAUNCH: Deed(order("lifeboat", "relaunch")),
    Operation.CHECKPOINT: Deed(order("checkpoint", "create")),
    Operation.ROTATE_KEY: Deed(order("key", "rotate", "caller")),
    Operation.REVOKE_KEY: Deed(order("key", "revoke", "caller", "--yes"), order("key", "rotate", "caller")),
    Operation.ACCEPT_DATASTORE: Deed(order("datastore", "accept", "memory")),
    Operation.ACCEPT_LOSS: Deed(order("ledger", "accept-loss", "--yes")),
    Operation.SET_BUDGET: Deed(order("budget", "set", "target", "tokens_per_minute=1000")),
    Operation.UPGRADE: Deed(order("upgrade")),
    Operation.MODEL_CALL: Deed(()),
}
# These end in a state of their own, need one, or are no order: each has a test of its own below.
APART = {
    Operation.UPGRADE,
    Operation.FORCE_PHASE,
    Operation.LIFEBOAT,
    Operation.RELAUNCH,
    Operation.MODEL_CALL,
    Operation.API_READ,
    Operation.APPROVE,
    Operation.DENY,
    Operation.REVOKE_HOST,
    Operation.LEARN,
    # Nothing has changed here: tests/e2e/test_changes.py has it.
    Operation.ACCEPT_CHANGE,
    # Without [identity] there is no bundle: tests/e2e/test_identity.py has it.
    Operation.IDENTITY_BUNDLE_READ,
    Operation.ROTATE_IDENTITY,
    # Without tools there are no servers: tests/e2e/test_foreign_servers.py has them.
    Operation.TOOLS_DIFF_READ,
    Operation.ACCEPT_TOOLS,
    # Without tools there is no memory: tests/e2e/test_stores.py has it.
    Operation.MEMORY_READ,
    Operation.MEMORY_VERIFY_READ,
    Operation.PROMOTE_MEMORY,
    Operation.RETRACT_MEMORY,
    # tests/e2e/test_vault.py has these.
    Operation.VAULT_READ,
    Operation.VAULT_SHOW_READ,
    Operation.VAULT_HISTORY_READ,
    Operation.VAULT_VERIFY_READ,
    Operation.ADD_DOCUMENT,
    Operation.RETRACT_DOCUMENT,
    Operation.UNDO_DOCUMENT,
    Operation.UNDO_PLAN_READ,
    Operation.UNDO,
    # A value comes by standard input, and what seals it is the machine's: tests/e2e/test_vault_secrets.py has them.
    Operation.SET_SECRET,
    Operation.ROTATE_SECRET,
    Operation.BIND_SECRET,
    Operation.TEST_SECRET,
    Operation.EXPORT_SECRET,
    Operation.REMOVE_SECRET,
    Operation.UNLOCK_SECRETS,
}


@pytest.fixture(scope="module")
def box() -> Iterator[SystemdBox]:
    with systemd_box(f"ops-{os.getpid()}") as box:
        box.let_everybody_reach(BIN / "python")
        box.let_everybody_reach(ROOT / "epad")
        box.run("groupadd", "operators")
        box.run("useradd", "-N", "-G", "operators", "overseer")
        box.run("useradd", "-N", "visitor")
        box.write("/etc/epad/epad.toml", CONFIG)
        box.write("/srv/caller.py", CALLER)
        box.write("/srv/model.py", MODEL)
        box.write("/srv/knock.py", KNOCK)
        box.run("python3", "-c", MAKE_MEMORY)
        box.run(BIN / "epad", "install", "--now")
        box.run("chown", "epad:", "/srv/memory.db")
        box.wait(lambda: box.subsystem("target").get("state") == "running", "the children to run")
        yield box


def ask(box: SystemdBox, who: str, *words: str) -> int:
    """The exit status of `epactl`, as everybody finds it after the installation."""
    return box.status("runuser", "-u", who, "--", "/usr/local/bin/epactl", *words)


def allowed(operation: Operation, who: str) -> bool:
    return operation is not Operation.MODEL_CALL and (who != OBSERVER or operation.risk is Risk.READ)


def told(operation: Operation) -> dict[str, str]:
    """What the docs say that came of it, by who asked."""
    found = re.search(rf"^\| {operation} \|(?:[^|]*\|){{3}}(.*) \|$", DOCS.read_text(), re.MULTILINE)
    assert found, f"docs/operations.md has no row for {operation}"
    return dict(zip(WHO, (cell.strip() for cell in found[1].split("|")), strict=True))


def outcome(status: int) -> str:
    return {0: "done", REFUSED: "refused", 401: "refused"}.get(status, f"failed with {status}")


def knock(box: SystemdBox, who: str, socket: str) -> int:
    """Call a model without a key, by a socket or at the gateway's port; the HTTP status, 0 if not let in."""
    host = box.epactl("status")["gateway"]["url"].removeprefix("http://")
    return int(box.run("runuser", "-u", who, "--", "python3", "/srv/knock.py", socket, host))


def test_no_operation_is_forgotten() -> None:
    """A new one needs a row here and in the docs before it is shipped."""
    assert set(DEEDS) == set(Operation)
    for operation in Operation:
        expected = {who: "done" if allowed(operation, who) else "refused" for who in WHO}
        assert told(operation) == expected, operation


@pytest.mark.parametrize("operation", [one for one in DEEDS if one not in APART])
def test_an_operation_is_done_for_who_may(box: SystemdBox, operation: Operation) -> None:
    """Root, the daemon's user and an operator get it done, an observer gets an answer to questions alone."""
    deed, statuses = DEEDS[operation], {}
    for who in WHO:
        if deed.before:
            ask(box, "root", *deed.before)
        statuses[who] = ask(box, who, *deed.command)
        if deed.undo and statuses[who] == 0:
            assert ask(box, "root", *deed.undo) == 0, box.journal()
    if deed.after:
        ask(box, "root", *deed.after)
    assert {who: outcome(status) for who, status in statuses.items()} == told(operation), box.journal()


def test_a_checkpoint_of_the_service_is_verified(box: SystemdBox) -> None:
    """It is read back in a child of the daemon, behind everything else."""
    assert ask(box, "root", *order("checkpoint", "create")) == 0
    box.wait(lambda: box.epactl("status")["checkpoint"]["verified"], "it to be read back")
    assert box.epactl("status")["checkpoint"]["faults"] == []
    assert ask(box, "root", "checkpoint", "verify") == 0


def test_a_subsystem_is_recorded_for_who_may(box: SystemdBox) -> None:
    """It runs under strace for a second, then as it is configured; the recording is the daemon's and root's to read."""
    if shutil.which("strace") is None:
        pytest.skip("strace is missing, or may not look at its children")
    for who in ("root", "epad", OBSERVER):
        said = outcome(ask(box, who, *DEEDS[Operation.LEARN].command))
        assert said == told(Operation.LEARN)[who], box.journal()


def test_a_datastore_is_looked_at(box: SystemdBox) -> None:
    """Nothing is blind: its child does not die."""

    def success() -> bool:
        probes = {probe["name"]: probe["success"] for probe in box.epactl("status")["probes"]}
        return bool(probes.get("datastore"))

    box.wait(success, "the datastore's probe")


def test_a_model_is_called(box: SystemdBox) -> None:
    """Through the subsystem's own socket and key, as its environment tells it."""
    box.wait(lambda: "answered" in box.run("/usr/local/bin/epactl", "logs", "caller"), "an answer")
    said = box.run("/usr/local/bin/epactl", "logs", "caller")
    assert "\nanswered 200" in f"\n{said}", said


def test_nobody_calls_a_model_without_a_key(box: SystemdBox) -> None:
    """Not even root: there is no one to charge."""
    said = {who: outcome(knock(box, who, "")) for who in WHO}
    assert said == told(Operation.MODEL_CALL)


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("operation", [Operation.APPROVE, Operation.DENY, Operation.REVOKE_HOST])
def test_a_question_is_answered_by_who_may(box: SystemdBox, operation: Operation, who: str) -> None:
    """No subsystem asks here: who may is told so, and who may not is refused before."""
    said = "refused" if ask(box, who, *DEEDS[operation].command) == REFUSED else "done"
    assert said == told(operation)[who]


@pytest.mark.parametrize("who", WHO)
def test_the_api_describes_itself(box: SystemdBox, who: str) -> None:
    """Over the socket, since `epactl` has no command for it."""
    said = box.run("runuser", "-u", who, "--", BIN / "python", "-c", ASK_FOR_THE_DOCUMENT)
    assert {said.strip(): "done"} == {"3.1.0": told(Operation.API_READ)[who]}


def test_a_subsystems_own_socket_serves_its_user_and_nobody_else(box: SystemdBox) -> None:
    """`listen` and `user =`: the kernel keeps others out, and says of root that it is not its user either."""
    statuses = {who: knock(box, who, "/run/epad/guest.sock") for who in ("visitor", OPERATOR, "root")}
    assert statuses == {"visitor": 200, OPERATOR: 0, "root": 403}
    assert ask(box, "root", *order("release", "guest")) == 0  # whom root's asking has put in doubt


def test_a_checkpoint_that_root_puts_back_is_the_daemons(box: SystemdBox) -> None:
    """The natural way at three in the morning: stop, restore as root, start."""
    assert ask(box, "root", *order("checkpoint", "create")) == 0
    box.run("systemctl", "stop", "epad")
    said = box.run("/usr/local/bin/epactl", "checkpoint", "restore", "--only", "", "--outside", "--yes")
    assert "restored" in said
    strangers = box.run("find", "/var/lib/epad", "!", "-user", "epad")
    assert strangers == ""
    box.run("systemctl", "start", "epad")
    box.wait(lambda: box.subsystem("target").get("state") == "running", "the children to run again")


@pytest.mark.parametrize("who", WHO)
def test_the_daemon_begins_again_for_who_may(box: SystemdBox, who: str) -> None:
    """Within its unit: systemd sees the same main process."""
    pid, child = box.property("epad", "MainPID"), box.subsystem("target")["pid"]
    status = ask(box, who, *DEEDS[Operation.UPGRADE].command)
    assert outcome(status) == told(Operation.UPGRADE)[who], box.journal()
    box.wait(lambda: box.property("epad", "SubState") == "running", "systemd to know that it is ready")
    assert (box.property("epad", "MainPID"), box.subsystem("target")["pid"]) == (pid, child)


@pytest.mark.parametrize("who", WHO)
def test_a_phase_is_forced(box: SystemdBox, who: str) -> None:
    """Where the waiting is all that stands in the way of it."""
    for before in ("quarantine", "release"):
        assert ask(box, "root", *order(before, "target")) == 0
    box.wait(lambda: not box.epactl("status")["anomalies"], "what the tests before have left to end", 300)
    status = ask(box, who, *DEEDS[Operation.FORCE_PHASE].command)
    assert outcome(status) == told(Operation.FORCE_PHASE)[who], box.journal()


@pytest.mark.parametrize("who", WHO)
def test_the_lifeboat_is_entered_and_left(box: SystemdBox, who: str) -> None:
    """Its bundle is verified as well."""
    enter, relaunch = Operation.LIFEBOAT, Operation.RELAUNCH
    assert outcome(ask(box, who, *DEEDS[enter].command)) == told(enter)[who]
    if who == OBSERVER:
        assert outcome(ask(box, who, *DEEDS[relaunch].command)) == told(relaunch)[who]
        return
    box.wait(lambda: box.epactl("phase")["phase"] == "LIFEBOAT", "the lifeboat")
    box.wait(lambda: "LIFEBOAT" in box.property("epad", "StatusText"), "its bundle")
    assert outcome(ask(box, who, *DEEDS[relaunch].command)) == told(relaunch)[who]
    box.wait(lambda: box.subsystem("target").get("state") == "running", "the children to run again")


def test_a_restore_drill_comes_back_whole(box: SystemdBox) -> None:
    """It is due every minute here, so it has been by now, most likely."""

    def drilled() -> bool:
        said = box.run("/usr/local/bin/epactl", "events", check=False)
        return "restore_drilled" in said or "drill" in said

    box.wait(drilled, "a drill", every=2.0)  # the events of all the tests before are many
