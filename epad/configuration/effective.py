"""The effective configuration, key by key, with the place that set each; nothing secret is shown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from epad.configuration.load import Loaded
from epad.configuration.toml_lines import key_text

# A terminal's scroll-back is no place for a key.
SECRET_WORDS = ("key", "token", "secret", "password", "credential")
HIDDEN = "(not shown)"


class Shown(NamedTuple):
    """Shows one key, its value as JSON has it, and the place that set it."""

    key: str
    value: Any
    origin: str

    def __str__(self) -> str:
        return f"{self.key} = {json.dumps(self.value, ensure_ascii=False)}  # {self.origin}"


def effective(loaded: Loaded) -> Iterator[Shown]:
    """Yield every key there is, in the order of the types."""
    for path, value in _leaves(msgspec.to_builtins(loaded.config)):
        key = key_text(path)
        yield Shown(key, masked(path, value), str(loaded.origin(key) or "built in"))


def known_below(loaded: Loaded, prefix: str) -> list[str]:
    """Return the names that stand where a key that is not there leaves the known ones."""
    keys, above = [shown.key for shown in effective(loaded)], prefix
    while above:
        above = above.rpartition(".")[0]
        below = [key.removeprefix(f"{above}.") for key in keys if key.startswith(f"{above}.")]
        if below:
            return list(dict.fromkeys(key.partition(".")[0] for key in below))
    return list(loaded.config.__struct_fields__)


def _leaves(table: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in table.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*above, key))
        elif value is not None and not isinstance(
            value, dict
        ):  # None: a key left out, which TOML has no word for
            yield (*above, key), value


def masked(path: tuple[str, ...], value: Any) -> Any:
    """The value, unless it is a secret: an environment variable named like one, a password in a URL."""
    if "environment" in path and any(word in path[-1].lower() for word in SECRET_WORDS):
        return HIDDEN
    if isinstance(value, str) and "://" in value:
        return re.sub(r"//[^/@]*@", f"//{HIDDEN}@", value)
    return value
