"""The tools, resources and prompts of fixed names that the MCP conformance suite asks a server for."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tool_world import definition

from epad.tools.protocol import (
    BAD_REPLY,
    NO_REPLIES,
    Caller,
    Definition,
    Question,
    Replies,
    ToolAnswer,
)
from epad.tools.wire.prompts import Argument, Filled, Prompt
from epad.tools.wire.resources import Content, Resource

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SOUND = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA="
SECRET = b"of this test"
PROGRESS_SECONDS = 0.5
"""How long the tool with progress takes: many times the pause after which the wire tells of it."""

Block = Mapping[str, object]


def text(said: str) -> Block:
    return {"type": "text", "text": said}


def image() -> Block:
    return {"type": "image", "data": PIXEL, "mimeType": "image/png"}


def embedded(uri: str, kind: str, said: str) -> Block:
    return {"type": "resource", "resource": {"uri": uri, "mimeType": kind, "text": said}}


def elicit(message: str, **properties: Mapping[str, object]) -> Question:
    schema = {"type": "object", "properties": properties, "required": sorted(properties)}
    return Question("elicitation/create", {"message": message, "requestedSchema": schema})


def sample(prompt: str) -> Question:
    message = {"role": "user", "content": text(prompt)}
    return Question("sampling/createMessage", {"messages": [message], "maxTokens": 100})


ROOTS = Question("roots/list")
NAME, OK = {"name": {"type": "string"}}, {"ok": {"type": "boolean"}}
OPTIONS = ["option1", "option2", "option3"]
TITLED = [{"const": f"value{n}", "title": f"Option {n}"} for n in (1, 2, 3)]
DEFAULTS: Mapping[str, Mapping[str, object]] = {
    "name": {"type": "string", "default": "John Doe"},
    "age": {"type": "integer", "default": 30},
    "score": {"type": "number", "default": 95.5},
    "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
    "verified": {"type": "boolean", "default": True},
}
ENUMS: Mapping[str, Mapping[str, object]] = {
    "untitledSingle": {"type": "string", "enum": OPTIONS},
    "titledSingle": {"type": "string", "oneOf": TITLED},
    "legacyEnum": {"type": "string", "enum": ["opt1", "opt2"], "enumNames": ["Option One", "Option Two"]},
    "untitledMulti": {"type": "array", "items": {"type": "string", "enum": OPTIONS}},
    "titledMulti": {"type": "array", "items": {"anyOf": TITLED}},
}

MIRRORED = "test_mirrored_argument"
MIRRORED_SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {"region": {"type": "string", "x-mcp-header": "Region"}},
}
# Tools that answer at once.
BLOCKS: Mapping[str, tuple[Block, ...]] = {
    "test_simple_text": (text("This is a simple text response for testing."),),
    "test_image_content": (image(),),
    "test_audio_content": ({"type": "audio", "data": SOUND, "mimeType": "audio/wav"},),
    "test_embedded_resource": (embedded("test://embedded-resource", "text/plain", "An embedded resource."),),
    "test_multiple_content_types": (
        text("Multiple content types test:"),
        image(),
        embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
    ),
    "test_logging_tool": (text("Nothing is logged to clients."),),
    MIRRORED: (text("Its header was compared."),),
    "json_schema_2020_12_tool": (text("Its schema is what matters."),),
}
# Tools that ask their client, round by round.
ROUNDS: Mapping[str, Sequence[Mapping[str, Question]]] = {
    "test_sampling": ({"sampled": sample("Test prompt for sampling")},),
    "test_elicitation": (
        {"user": elicit("Please say who you are", username={"type": "string"}, email={"type": "string"})},
    ),
    "test_elicitation_sep1034_defaults": ({"all": elicit("Please check", **DEFAULTS)},),
    "test_elicitation_sep1330_enums": ({"all": elicit("Please choose", **ENUMS)},),
    "test_streaming_elicitation": ({"user_name": elicit("What is your name?", **NAME)},),
    "test_missing_capability": ({"capital": sample("What is the capital of France?")},),
    "test_input_required_result_elicitation": ({"user_name": elicit("What is your name?", **NAME)},),
    "test_input_required_result_sampling": ({"capital_question": sample("The capital of France?")},),
    "test_input_required_result_list_roots": ({"client_roots": ROOTS},),
    "test_input_required_result_request_state": ({"confirm": elicit("Please confirm", **OK)},),
    "test_input_required_result_tampered_state": ({"confirm": elicit("Please confirm", **OK)},),
    "test_input_required_result_multiple_inputs": (
        {"user_name": elicit("Your name?", **NAME), "greeting": sample("A greeting"), "client_roots": ROOTS},
    ),
    "test_input_required_result_multi_round": (
        {"step1": elicit("Step 1: What is your name?", **NAME)},
        {"step2": elicit("Step 2: What is your favorite color?", color={"type": "string"})},
    ),
}
# This one asks whatever its client can be asked.
CAPABLE = "test_input_required_result_capabilities"
ASKING: Mapping[str, Question] = {
    "elicitation": elicit("Your name?", **NAME),
    "sampling": sample("A greeting"),
}
SLOW, FAILING = "test_tool_with_progress", "test_error_handling"
SCHEMA: dict[str, object] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


class FixtureTools:
    """Implements the tool door's protocol with the suite's tools."""

    def __init__(self) -> None:
        names = sorted((*BLOCKS, *ROUNDS, CAPABLE, SLOW, FAILING))
        schemas = {"json_schema_2020_12_tool": SCHEMA, MIRRORED: MIRRORED_SCHEMA}
        self._known = [
            definition(name, f"Do what {name} says.", schema=schemas.get(name, {"type": "object"}))
            for name in names
        ]

    def caller(self, subsystem: str) -> Caller:
        return Caller(subsystem, f"session-of-{subsystem}", 2)

    def definitions(self, caller: Caller) -> Sequence[Definition]:
        del caller
        return self._known

    async def call(
        self,
        caller: Caller,
        name: str,
        arguments: Mapping[str, object],
        *,
        key: str | None,
        parent: str = "",
        replies: Replies = NO_REPLIES,
    ) -> ToolAnswer:
        del caller, arguments, key, parent
        if name in BLOCKS:
            return done(*BLOCKS[name])
        if name in ROUNDS:
            return asked(name, ROUNDS[name], replies)
        if name == CAPABLE:
            able = {key: one for key, one in ASKING.items() if key in replies.may_ask}
            return asked(name, [able], replies)
        if name == SLOW:
            await _after(PROGRESS_SECONDS)
            return done(text("It took its time."))
        known = any(name == each.name for each in self._known)
        said = "This tool intentionally returns an error for testing"
        return failed(said, "failed") if known else failed(f"no tool {name}", "unknown_tool")


def done(*blocks: Block) -> ToolAnswer:
    return ToolAnswer("turn", is_error=False, content={}, blocks=blocks)


def failed(said: str, code: str) -> ToolAnswer:
    return ToolAnswer("turn", is_error=True, content={"error": said, "hint": ""}, reason_code=code)


def asked(name: str, rounds: Sequence[Mapping[str, Question]], replies: Replies) -> ToolAnswer:
    """Ask the next round that the signed state says is due, or answer once all have their replies."""
    number = _read_state(name, replies.state)
    if number is None:
        return failed("the state is not the one that was given out", BAD_REPLY)
    if rounds[number].keys() <= replies.by_name.keys():
        number += 1
    if number == len(rounds):
        return done(text(f"state-ok: {json.dumps(replies.by_name)}"))
    return ToolAnswer("", False, {}, questions=rounds[number], state=_state(name, number))


def _state(name: str, number: int) -> str:
    signed = f"{name}:{number}"
    return f"{signed}:{hmac.new(SECRET, signed.encode(), hashlib.sha256).hexdigest()}"


def _read_state(name: str, state: str) -> int | None:
    """Return the round of a state; of a repeated request without one, too, the first."""
    number = state.split(":")[1] if state.count(":") == 2 else "0"
    if not state or (number.isdigit() and hmac.compare_digest(state, _state(name, int(number)))):
        return int(number)
    return None


async def _after(seconds: float) -> None:
    """Wait as work would."""
    passed = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, passed.set)
    await passed.wait()


class FixtureResources:
    """Implements the door's resources with the suite's."""

    def listed(self, caller: Caller) -> Sequence[Resource]:
        del caller
        return (
            Resource("test://static-binary", "binary", "A pixel.", "image/png"),
            Resource("test://static-text", "text", "A text.", "text/plain"),
        )

    def templates(self, caller: Caller) -> Sequence[Resource]:
        del caller
        return (Resource("test://template/{id}/data", "data", "Data by its id.", "application/json"),)

    async def read(self, caller: Caller, uri: str) -> Content | None:
        del caller
        if uri == "test://static-text":
            return Content(uri, "text/plain", "This is the content of the static text resource.")
        if uri == "test://static-binary":
            return Content(uri, "image/png", b"\x89PNG")
        if uri.startswith("test://template/"):
            number = uri.split("/")[3]
            held = {"id": number, "templateTest": True, "data": f"Data for ID: {number}"}
            return Content(uri, "application/json", json.dumps(held))
        return None


def _said(*blocks: Block) -> Filled:
    return Filled(tuple({"role": "user", "content": block} for block in blocks))


PROMPTS: Mapping[str, tuple[tuple[str, ...], Callable[[Mapping[str, str]], Filled]]] = {
    "test_simple_prompt": ((), lambda _: _said(text("This is a simple prompt for testing."))),
    "test_prompt_with_arguments": (
        ("arg1", "arg2"),
        lambda given: _said(text(f"Prompt with arguments: arg1='{given['arg1']}', arg2='{given['arg2']}'")),
    ),
    "test_prompt_with_embedded_resource": (
        ("resourceUri",),
        lambda given: _said(
            embedded(given["resourceUri"], "text/plain", "Embedded resource content for testing."),
            text("Please process the embedded resource above."),
        ),
    ),
    "test_prompt_with_image": ((), lambda _: _said(image(), text("Please analyze the image above."))),
}
ASKING_PROMPT = "test_input_required_result_prompt"
CONTEXT = {"user_context": elicit("What context should the prompt use?", context={"type": "string"})}


class FixturePrompts:
    """Implements the door's prompts with the suite's."""

    def listed(self, caller: Caller) -> Sequence[Prompt]:
        del caller
        names = {**{name: arguments for name, (arguments, _) in PROMPTS.items()}, ASKING_PROMPT: ()}
        return [
            Prompt(name, f"Say what {name} says.", tuple(Argument(one, "a text") for one in arguments))
            for name, arguments in sorted(names.items())
        ]

    async def get(
        self, caller: Caller, name: str, arguments: Mapping[str, str], replies: Replies = NO_REPLIES
    ) -> Filled | None:
        del caller
        if name == ASKING_PROMPT:
            if not replies.by_name:
                return Filled((), questions=CONTEXT)
            return _said(text(f"Context: {json.dumps(replies.by_name)}"))
        return PROMPTS[name][1](arguments) if name in PROMPTS else None

    def completions(self, caller: Caller, name: str, argument: str, begun: str) -> Sequence[str]:
        del caller, name, argument
        return [word for word in ("test", "testing", "paris") if word.startswith(begun)]


def parts() -> dict[str, Any]:
    """Return what a door takes beside its tools."""
    return {"resources": FixtureResources(), "prompts": FixturePrompts()}
