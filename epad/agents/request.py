"""Read a request for an agent: a template's name, a reason, and data. Nothing in it is ever a command."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from epad import EpadError
from epad.configuration.agent_schema import PLACEHOLDER, AgentConfig, ParameterConfig
from epad.formatting.text import clean
from epad.gate.tiers import TierName

MOST_INPUT_BYTES: Final = 1 << 20


class SpawnRefusedError(EpadError):
    """An agent is not spawned. `row` names the rule, `hint` says what to do; `status` is HTTP's."""

    def __init__(self, row: str, why: str, hint: str, status: int = 403, question: int = 0) -> None:
        super().__init__(why)
        self.row = row
        self.hint = hint
        self.status = status
        self.question = question


class AskedBudget(Struct, frozen=True, forbid_unknown_fields=True):
    """Holds the amounts that are asked for; None leaves one to the template."""

    tokens: Annotated[int, Meta(ge=1, le=2**53)] | None = None
    usd: Annotated[float, Meta(ge=0, le=1e9)] | None = None


class Asked(Struct, frozen=True, forbid_unknown_fields=True):
    """Holds a request. The parent is not in it: that is whoever asks. `tier` None leaves the tier to the template."""

    template: str
    reason: Annotated[str, Meta(min_length=1, max_length=300)]
    tier: TierName | None = None
    budget: AskedBudget = AskedBudget()
    parameters: dict[str, str | int] = {}
    input: str = ""


_decoder = msgspec.json.Decoder(Asked)


def read_request(body: bytes) -> Asked:
    """Return the request in a body. Raises SpawnRefusedError."""
    try:
        asked = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        hint = (
            '{"template": "NAME", "reason": "why"}, and tier, budget, parameters, input where they are wanted'
        )
        raise SpawnRefusedError("spawn/request", f"the body asks for no agent: {error}", hint, 400) from error
    if len(asked.input.encode(errors="surrogatepass")) > MOST_INPUT_BYTES:
        why = f"the input has more than {MOST_INPUT_BYTES:,} bytes"
        raise SpawnRefusedError("spawn/request", why, "put it into the workspace, and name the file", 400)
    if not asked.reason.strip():
        raise SpawnRefusedError("spawn/request", "the reason is blank", "say why the agent is needed", 400)
    return asked


def command_of(template: str, agent: AgentConfig, given: Mapping[str, str | int]) -> tuple[str, ...]:
    """Return a template's command with the parameters in their places. Raises SpawnRefusedError."""
    for name in given:
        if name not in agent.parameters:
            known = ", ".join(agent.parameters) or "none"
            raise _wrong(template, name, f"is no parameter of {template}; there are: {known}")
    for name in agent.parameters:
        if name not in given:
            raise _wrong(template, name, "is missing")
    words = {name: _word(template, name, agent.parameters[name], value) for name, value in given.items()}
    command = tuple(PLACEHOLDER.sub(lambda found: words[found[1]], word) for word in agent.command)
    for written, word in zip(agent.command, command, strict=True):
        whole = PLACEHOLDER.fullmatch(written)
        if whole is not None and word.startswith("-"):
            raise _wrong(template, whole[1], "begins with -, and would be taken for an option")
    return command


def _word(template: str, name: str, parameter: ParameterConfig, value: str | int) -> str:
    """Return a parameter's value as a word of the command. Raises SpawnRefusedError."""
    if parameter.least is not None and parameter.most is not None:
        if not isinstance(value, int) or isinstance(value, bool):
            raise _wrong(template, name, "is no whole number")
        if not parameter.least <= value <= parameter.most:
            raise _wrong(template, name, f"is {value}; it may be {parameter.least} to {parameter.most}")
        return str(value)
    if not isinstance(value, str):
        raise _wrong(template, name, "is no text")
    if len(value) > parameter.max_characters:
        raise _wrong(template, name, f"has more than {parameter.max_characters} characters")
    if "\0" in value or not value.isprintable():
        raise _wrong(template, name, "has characters that cannot be seen")
    if parameter.choices and value not in parameter.choices:
        raise _wrong(template, name, f"may be: {', '.join(parameter.choices)}")
    if parameter.pattern and re.fullmatch(parameter.pattern, value) is None:
        raise _wrong(template, name, f"does not match {parameter.pattern}")
    return value


def _wrong(template: str, name: str, why: str) -> SpawnRefusedError:
    hint = f"[agents.{template}.parameters.{clean(name)[:32]}] says what it may be"
    return SpawnRefusedError("spawn/parameters", f"parameters.{clean(name)[:32]} {why}", hint, 400)
