"""URLs that can never be asked are an error; `epad check` names those that lead back to epad, or are no base."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from epad.configuration.load import ConfigError, load
from epad.configuration.urls import base_fault, leads_to, url_fault
from epad.doctor.missing_programs import world_check


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://[::1:8000", "Invalid IPv6 URL"),
        ("http://:8000", "names no host"),
        ("http://", "names no host"),
        ("http://h:99999", "out of range"),
        ("http://h:abc", "could not be cast"),
        ("http://h:8000\u200b", "\\u200b"),
        ("http://h:0", "port 0"),
        ("unix:/" + "x" * 107, "too long"),
        ("unix:/" + "x" * 106, ""),
        ("http://h:8000/v1", ""),
        ("https://me:secret@h", ""),
        ("http://[::1]:8000", ""),
    ],
)
def test_what_can_never_be_asked(url: str, said: str) -> None:
    """It ended in a traceback, at the daemon's start or when a probe looked."""
    fault = url_fault(url)
    assert (said in fault, bool(fault)) == (True, bool(said))


@pytest.mark.parametrize("key", ["upstream", "health"])
def test_such_a_url_is_an_error_of_the_file(tmp_path: Path, key: str) -> None:
    """With its line."""
    file = tmp_path / "epad.toml"
    lines = {
        "upstream": '[upstreams.v]\nurl = "http://[::1:8000"\ndialects = ["openai"]\n',
        "health": '[subsystems.a]\nhealth = { http = "http://[::1:8000" }\ncommand = ["x"]\n',
    }
    file.write_text(lines[key])
    with pytest.raises(ConfigError, match=r"epad\.toml:2: .*Invalid IPv6 URL"):
        load(file)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://h:1/v1/chat/completions", "without /chat/completions"),
        ("http://h:1/api/chat/", "without /api/chat"),
        ("https://h/v1/messages", "without /messages"),
        ("http://h:1/?key=1", "never sent"),
        ("http://h:1/#x", "never sent"),
        ("http://h:1/v1", ""),
        ("http://h:1/openai/deployments/x", ""),
        ("unix:/run/messages", ""),
    ],
)
def test_what_is_no_base(url: str, said: str) -> None:
    """A route behind it would be asked behind it once more."""
    fault = base_fault(url)
    assert (said in fault, bool(fault)) == (True, bool(said))


@pytest.mark.parametrize(
    ("host", "listen", "itself"),
    [
        ("0.0.0.0", "127.0.0.1", True),
        ("[::]", "[::1]", True),
        ("127.1", "127.0.0.1", True),
        ("2130706433", "127.0.0.1", True),
        ("0x7f000001", "127.0.0.1", True),
        ("[::ffff:127.0.0.1]", "127.0.0.1", True),
        ("LOCALHOST.", "127.0.0.1", True),
        ("ip6-localhost", "[::1]", True),
        ("127.0.0.2", "0.0.0.0", True),
        (socket.gethostname(), "0.0.0.0", True),
        ("127.0.0.2", "127.0.0.1", False),
        ("10.0.0.2", "0.0.0.0", False),
        ("models.example.org", "0.0.0.0", False),
    ],
)
def test_every_name_of_this_machine_leads_to_it(host: str, listen: str, itself: bool) -> None:
    """However an address is written; a name that only another could resolve is taken for another's."""
    assert leads_to(f"http://{host}:8300", f"{listen}:8300") is itself
    assert not leads_to(f"http://{host}:8301", f"{listen}:8300")


SELF = """
[upstreams.v]
url = "{url}"
dialects = ["openai"]
[subsystems.a]
command = ["sh"]
listen = "unix:/run/a.sock"
[subsystems.b]
command = ["sh"]
health = {{ tcp = "{tcp}" }}
"""


@pytest.mark.parametrize(
    ("url", "tcp", "key", "said"),
    [
        ("http://0.0.0.0:8700", "h:1", "upstreams.v.url", "[gateway] listens"),
        ("http://me:secret@127.0.0.1:8702", "h:1", "upstreams.v.url", "[web] of epad"),
        ("http://localhost:8701/v1", "h:1", "upstreams.v.url", "[metrics] of epad"),
        ("unix:/run/a.sock", "h:1", "upstreams.v.url", "subsystems.a.listen listens"),
        ("http://h:1/v1/responses", "h:1", "upstreams.v.url", "without /responses"),
        ("http://h:1", "localhost:8700", "subsystems.b.health.tcp", "tells nothing of b"),
    ],
)
def test_what_asks_epad_in_the_belief_to_ask_another(
    tmp_path: Path, url: str, tcp: str, key: str, said: str
) -> None:
    """Gateway, doors, page and metrics, as an upstream and as a check; no password is shown."""
    file = tmp_path / "epad.toml"
    file.write_text(SELF.format(url=url, tcp=tcp))
    ((found, text),) = [(".".join(one.key), one.text) for one in world_check(load(file), {"PATH": "/bin"})]
    assert found == key
    assert said in text
    assert "secret" not in text
