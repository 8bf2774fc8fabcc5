"""Tools of the category `prompt` that fill placeholders. A placeholder is `{{name}}`, and nothing more is understood.

There is no code in a template: no attribute, no filter, no condition. A value is put in as it is, and is not looked at
for placeholders. `{{secret:NAME}}`, which the way out fills in, stays as it is.
"""

from __future__ import annotations

import graphlib
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Final

import msgspec
from msgspec import Meta, field

from runners.tools import output, text
from runners.tools.signature import Args, Result, ToolError, meta

_MOST_CHARACTERS: Final = 4 << 20
_BRACES: Final = re.compile(r"\{\{([^{}]*)\}\}")
_NAME: Final = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*")
_SECRET: Final = re.compile(r"secret:[A-Za-z0-9_.-]{1,64}")


class BuildArgs(Args, frozen=True):
    """Holds a template and a value for each of its placeholders."""

    template: str
    values: dict[str, str] = field(default_factory=dict)


class BuildResult(Result, frozen=True):
    """Holds the prompt, and about how many tokens it has."""

    text: str
    tokens: int


PROMPT_BUILD: Final = meta(
    "prompt_build",
    BuildArgs,
    BuildResult,
    risk="P",
    timeout=5,
    description="Fill a prompt template: each {{name}} becomes its value; missing or unused ones fail.",
    examples=(
        {"template": "Summarise {{topic}} for {{reader}}.", "values": {"topic": "MCP", "reader": "Ann"}},
    ),
)


@PROMPT_BUILD.tool
async def prompt_build(args: BuildArgs) -> BuildResult:
    """Fill each placeholder once."""
    names = list(placeholders(args.template))
    if missing := sorted({name for name in names if name not in args.values}):
        raise ToolError(f"there is no value for {', '.join(missing)}", "give a value to each placeholder")
    if unused := sorted(args.values.keys() - set(names)):
        raise ToolError(
            f"the template has no {{{{{unused[0]}}}}}", f"drop the value, or use it; it has {_listed(names)}"
        )
    size = len(args.template) + sum(len(args.values[name]) for name in names)
    if size > _MOST_CHARACTERS:
        raise ToolError(
            f"the prompt would have about {size} characters; at most {_MOST_CHARACTERS} are made",
            "give shorter values, or name them less often",
        )
    prompt = output.whole(filled(args.template, args.values), "build a shorter prompt")
    return BuildResult(text=prompt, tokens=text.tokens_of(prompt))


class Step(msgspec.Struct, frozen=True):
    """Holds one prompt of a chain: {{name}} in its text stands for the answer of the step of that name."""

    name: str
    text: str


class ChainArgs(Args, frozen=True):
    """Holds the steps of a chain, in any order."""

    steps: Annotated[list[Step], Meta(min_length=1, max_length=200)]


class Ordered(msgspec.Struct, frozen=True):
    """Describes a step: the steps it needs, and its round; steps of one round can run at the same time."""

    name: str
    text: str
    needs: list[str]
    round: int


class ChainResult(Result, frozen=True):
    """Holds the steps in an order in which they can run, and the names that no step answers: the chain's own input."""

    steps: list[Ordered]
    inputs: list[str]


PROMPT_CHAIN: Final = meta(
    "prompt_chain",
    ChainArgs,
    ChainResult,
    risk="P",
    timeout=5,
    description="Order prompts that use each other's answers as {{step}}.",
    examples=(
        {
            "steps": [
                {"name": "review", "text": "Review {{draft}} for {{reader}}."},
                {"name": "draft", "text": "Write about {{topic}}."},
            ]
        },
    ),
)


@PROMPT_CHAIN.tool
async def prompt_chain(args: ChainArgs) -> ChainResult:
    """Sort the steps by their needs. A circle is told by its steps."""
    steps = {step.name: step for step in args.steps}
    if wrong := [name for name in steps if not _NAME.fullmatch(name) or name != name.strip()]:
        raise ToolError(f"{output.cut_line(wrong[0])!r} is no name of a step", "letters, digits and _ only")
    if len(steps) < len(args.steps):
        names = [step.name for step in args.steps]
        twice = next(name for at, name in enumerate(names) if name in names[:at])
        raise ToolError(f"there are two steps with the name {twice!r}", "give each step a name of its own")
    used = {name: list(dict.fromkeys(placeholders(step.text))) for name, step in steps.items()}
    needs = {name: [each for each in names if each in steps] for name, names in used.items()}
    ordered = [
        Ordered(name, steps[name].text, needs[name], number)
        for number, names in enumerate(_rounds(needs), 1)
        for name in names
    ]
    inputs = dict.fromkeys(each for step in ordered for each in used[step.name] if each not in steps)
    return ChainResult(steps=output.whole(ordered, "give shorter texts, or fewer steps"), inputs=list(inputs))


def _rounds(needs: Mapping[str, list[str]]) -> Iterator[list[str]]:
    """Yield the steps that can run next, in the order in which they were given."""
    sorter = graphlib.TopologicalSorter(needs)
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        circle = " needs ".join(reversed(error.args[1]))
        raise ToolError(f"the steps go round in a circle: {circle}", "let one of them do without") from None
    while ready := sorter.get_ready():
        yield sorted(ready, key=list(needs).index)
        sorter.done(*ready)


def placeholders(template: str) -> Iterator[str]:
    """Yield the names of a template's placeholders. Raises ToolError for anything else in double braces."""
    for match in _BRACES.finditer(template):
        if name := _NAME.fullmatch(match[1]):
            yield name[1]
        elif not _SECRET.fullmatch(match[1]):
            raise ToolError(
                f"{output.cut_line(match[0])!r} at character {match.start()} is no placeholder",
                "only {{name}} of letters, digits and _; other double braces come in by a value",
            )
    if (at := _BRACES.sub(lambda match: " " * len(match[0]), template).find("{{")) >= 0:
        raise ToolError(
            f"the {{{{ at character {at} is not closed, or has braces in it",
            "close it; other double braces come in by a value",
        )


def filled(template: str, values: Mapping[str, str]) -> str:
    """Return a template with its placeholders replaced, in one pass."""

    def value(match: re.Match[str]) -> str:
        name = _NAME.fullmatch(match[1])
        return values[name[1]] if name else match[0]

    return _BRACES.sub(value, template)


def _listed(names: list[str]) -> str:
    return ", ".join(dict.fromkeys(names)) or "no placeholder"


TOOLS: Final = (PROMPT_BUILD, PROMPT_CHAIN)
