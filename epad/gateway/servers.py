"""What kinds of model servers there are, and how each differs in what metering rests on."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NOT_IN_A_NAME = re.compile(r"[^a-z0-9]")


@dataclass(frozen=True, slots=True)
class Server:
    """One kind of model server.

    `shows_all`: it streams every token that it makes, so that what was seen of a stream that broke off bounds what
    was made; others think unseen, or may. `counts_all_choices`: the usage of an answer with `n` choices counts them
    all, not one of them. Neither is believed of a server that is not known.
    """

    name: str
    shows_all: bool = False
    counts_all_choices: bool = False


GENERIC = Server("generic")
SERVERS: dict[str, Server] = {
    server.name: server
    for server in (
        Server("llama.cpp", shows_all=True),
        Server("vllm", shows_all=True, counts_all_choices=True),
        Server("ollama", shows_all=True),
        Server("openai", counts_all_choices=True),
        Server("anthropic"),
        Server("mistral", shows_all=True, counts_all_choices=True),
        Server("xai", counts_all_choices=True),
        Server("deepseek", shows_all=True, counts_all_choices=True),
        Server("gemini", counts_all_choices=True),
        Server("tgi", shows_all=True),
        Server("sglang", shows_all=True, counts_all_choices=True),
        Server("lmstudio", shows_all=True),
        Server("transformers", shows_all=True, counts_all_choices=True),
        GENERIC,
    )
}
_BY_LETTERS = {_NOT_IN_A_NAME.sub("", name): server for name, server in SERVERS.items()}


def server_named(name: str) -> Server | None:
    """The kind of that name, however it is spelt: "LM Studio", "llama.cpp", "llamacpp"; None if it is none."""
    return _BY_LETTERS.get(_NOT_IN_A_NAME.sub("", name.lower()))
