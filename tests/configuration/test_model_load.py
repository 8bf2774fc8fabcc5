"""How long a model server may take to load, by what its command names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from epad_house import configured

from epad.configuration.load import load
from epad.configuration.model_load import (
    BYTES_PER_SECOND,
    FLOOR_SECONDS,
    LONGEST_SECONDS,
    is_loading,
    load_seconds,
)
from epad.configuration.schema import SubsystemConfig
from probes.subsystems import SubsystemSnapshot, SubsystemState
from statemachine.clock import ManualClock

GIGABYTE = 1_000_000_000


def sparse(path: Path, size: int) -> Path:
    """Make a file of a size that takes no room."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)
    return path


@pytest.mark.parametrize("arguments", [
    ["-m", "{m}/a.gguf"], ["--model={m}/a.gguf"], ["--model", "{m}/a.gguf", "--port", "1"],
    ["-m", "{m}/a.gguf", "--alias", "{m}/a.gguf"],
])  # fmt: skip
def test_a_file_of_weights_is_found_however_it_is_named(tmp_path: Path, arguments: list[str]) -> None:
    sparse(tmp_path / "a.gguf", 3 * GIGABYTE)
    command = ["llama-server", *(argument.format(m=tmp_path) for argument in arguments)]
    assert load_seconds(command) == FLOOR_SECONDS + 30


def test_a_folder_has_all_its_weights_and_nothing_else(tmp_path: Path) -> None:
    for number in range(3):
        sparse(tmp_path / f"model-0000{number}-of-00003.safetensors", GIGABYTE)
    sparse(tmp_path / "notes.txt", 50 * GIGABYTE)
    assert load_seconds(["vllm", "serve", str(tmp_path)]) == FLOOR_SECONDS + 30
    assert load_seconds(["vllm", "serve", "./models"], str(tmp_path)) == 0
    sparse(tmp_path / "models/x.safetensors", GIGABYTE)
    assert load_seconds(["vllm", "serve", "./models"], str(tmp_path)) == FLOOR_SECONDS + 10


def test_the_first_part_of_a_model_names_the_others(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        sparse(tmp_path / f"big-0000{number}-of-00003.gguf", GIGABYTE)
    sparse(tmp_path / "other-00001-of-00003.gguf", GIGABYTE)
    assert (
        load_seconds(["llama-server", "-m", str(tmp_path / "big-00001-of-00003.gguf")]) == FLOOR_SECONDS + 30
    )


@pytest.mark.parametrize("command", [
    [], ["vllm"], ["vllm", "serve", "meta-llama/Llama-3"], ["llama-server", "-m", "/none/there.gguf"],
    ["x", "\0/a.gguf"], ["x", "~nobody-at-all/a.gguf"],
])  # fmt: skip
def test_a_command_that_names_no_weights_here_has_no_time(command: list[str]) -> None:
    assert load_seconds(command) == 0


@pytest.mark.parametrize("variable", ["HF_HOME", "HF_HUB_CACHE"])
def test_a_name_of_the_hub_is_looked_up_where_its_library_keeps_it(tmp_path: Path, variable: str) -> None:
    """As vLLM is started most often; of several versions the last counts."""
    hub = tmp_path / "hub" if variable == "HF_HOME" else tmp_path
    snapshots = hub / "models--Qwen--Qwen2.5-7B" / "snapshots"
    old = sparse(snapshots / "aaa/model.safetensors", 9 * GIGABYTE).parent
    os.utime(old, (1, 1))
    sparse(snapshots / "bbb/model-00001-of-00002.safetensors", GIGABYTE)
    sparse(snapshots / "bbb/model-00002-of-00002.safetensors", GIGABYTE)
    command = ["vllm", "serve", "Qwen/Qwen2.5-7B"]
    assert load_seconds(command, environment={variable: str(tmp_path)}) == FLOOR_SECONDS + 20
    assert load_seconds(command, environment={variable: str(tmp_path / "empty")}) == 0


def test_no_model_takes_longer_than_an_hour(tmp_path: Path) -> None:
    sparse(tmp_path / "a.gguf", BYTES_PER_SECOND * 10_000)
    assert load_seconds(["x", str(tmp_path / "a.gguf")]) == LONGEST_SECONDS


CONFIG = """
[upstreams.ours]
url = "http://127.0.0.1:1"
dialects = ["openai"]
served_by = "model"
[subsystems.model]
command = ["llama-server", "-m", "{model}"]
gateway = false
{more}
[subsystems.agent]
command = ["agent", "{model}"]
"""


@pytest.mark.parametrize(("more", "seconds"), [("", FLOOR_SECONDS + 20), ("ready_seconds = 7.0", 7.0)])
def test_only_who_serves_a_model_waits_for_it_and_the_file_has_the_last_word(
    tmp_path: Path, more: str, seconds: float
) -> None:
    model = sparse(tmp_path / "a.gguf", 2 * GIGABYTE)
    file = tmp_path / "epad.toml"
    file.write_text(CONFIG.format(model=model, more=more))
    subsystems = load(file).subsystems
    assert (subsystems["model"].ready_seconds, subsystems["agent"].ready_seconds) == (seconds, 30.0)


@pytest.mark.parametrize(("state", "age", "loading"), [
    (SubsystemState.STARTING, 900, True), (SubsystemState.RUNNING, 10, True), (SubsystemState.RUNNING, 31, False),
    (SubsystemState.FAILED, 1, False), (SubsystemState.RECOVERING, 90, True), (SubsystemState.STOPPED, 1, False),
])  # fmt: skip
def test_a_server_is_loading_for_as_long_as_it_may_take(
    state: SubsystemState, age: float, loading: bool
) -> None:
    clock = ManualClock()
    began = clock.monotonic()
    clock.advance(age)
    config = configured(model=SubsystemConfig(command=("x",)))
    snapshots = [SubsystemSnapshot("model", "process", state, False, began)]
    assert is_loading("model", snapshots, config, clock) is loading
    assert not is_loading("nobody", snapshots, config, clock)
