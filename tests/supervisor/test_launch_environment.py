"""What children inherit of the daemon's environment: the usual, what is switched off, what is named; no secret."""

from __future__ import annotations

import pytest

from epad.supervisor.launch import inherited, named

OFF = (
    "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "DO_NOT_TRACK", "NO_PROXY", "no_proxy",
    "VLLM_NO_USAGE_STATS", "VLLM_DO_NOT_TRACK", "HF_HUB_DISABLE_TELEMETRY", "DISABLE_TELEMETRY", "ANONYMIZED_TELEMETRY",
    "GRADIO_ANALYTICS_ENABLED", "WANDB_MODE", "WANDB_DISABLED", "LANGCHAIN_TRACING_V2", "RAY_USAGE_STATS_ENABLED",
    "NEXT_TELEMETRY_DISABLED", "SCARF_NO_ANALYTICS", "DOTNET_CLI_TELEMETRY_OPTOUT", "UV_OFFLINE", "PIP_NO_INDEX",
)  # fmt: skip
SECRET = (
    "HF_TOKEN", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "LANGCHAIN_TRACING_KEY", "TELEMETRY_TOKEN", "SENTRY_DSN",
    "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "INVOCATION_ID", "HTTP_PROXY", "HF_HUB_TOKEN",
)  # fmt: skip


@pytest.mark.parametrize("name", OFF)
def test_what_is_switched_off_stays_off(name: str) -> None:
    """Whatever a person said of the network and of statistics holds for what epad starts, too."""
    assert inherited({name: "1"}) == {name: "1"}


@pytest.mark.parametrize("name", SECRET)
def test_nothing_secret_passes_unless_it_is_named(name: str) -> None:
    """Keys stay in the daemon; a proxy's address may hold a password."""
    assert inherited({name: "x"}) == {}
    assert named({name: "x", "OTHER": "y"}, [name]) == {name: "x"}


def test_a_prefix_may_be_named() -> None:
    """As shells write it; letters count as they are."""
    environment = {"MY_A": "1", "MY_B": "2", "my_c": "3", "NOT_MY": "4"}
    assert named(environment, ["MY_*"]) == {"MY_A": "1", "MY_B": "2"}
