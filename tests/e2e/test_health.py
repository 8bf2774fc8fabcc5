"""A model server that is asked for a token: ready when it gives one, replaced when it no longer does."""

from __future__ import annotations

import sys

from installed import QUICK, Installation, installation

SERVED = """
[upstreams.small]
url = "unix:%(socket)s"
dialects = ["openai"]
embedded = true
[subsystems.model]
command = ["%(python)s", "-m", "runners.model", "--listen", "unix:%(socket)s", "--latency-ms", "0"]
gateway = false
essential = true
[subsystems.model.health]
inference = "embedded-markov-chat"
interval_seconds = 4.5  # further apart than an idle connection to a model is kept (4 s): each look connects anew
timeout_seconds = 30.0
failures = 2
[subsystems.model.restart]
hung_seconds = 0.5
backoff_seconds = 0.01
[subsystems.user]
command = ["sleep", "600"]
depends_on = ["model"]
"""


def serve(house: Installation) -> None:
    house.config.write_text(
        QUICK + SERVED % {"socket": house.directory / "model.sock", "python": sys.executable}
    )


def test_a_model_server_that_gives_no_token_is_hung_and_replaced() -> None:
    """It runs, but nobody can reach it: a process list calls that running, one token tells."""
    with installation() as house:
        serve(house)
        house.start()
        model = house.subsystem("model")
        assert (model["state"], house.subsystem("user")["state"]) == ("running", "running")
        (house.directory / "model.sock").unlink()
        house.wait(lambda: house.subsystem("model")["pid"] not in {model["pid"], None}, "a replacement")
        house.wait(lambda: house.subsystem("model")["state"] == "running", "a token from it")
        reason = house.events("subsystem.exited")[0]["fields"]["status"]
        assert reason.startswith("hung: ")
        assert "health checks failed: upstream small cannot be reached" in reason
        assert house.stop() == 0
