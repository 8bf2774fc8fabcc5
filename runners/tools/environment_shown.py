"""Choose the variables of an environment whose values tools show, and mask what looks like a secret in them.

The daemon uses it too: it hands a worker of the category `system` the names of its variables, and the values of those
that may be seen, so that no secret comes into the worker.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Final

VARIABLE: Final = "EPAD_HOST_ENVIRONMENT"
"""The variable in which a worker gets the environment that it tells of, as JSON: a masked value is null."""
SHOWN: Final = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TERM", "EDITOR", "PAGER"),
        *("PWD", "TMPDIR", "DISPLAY", "WAYLAND_DISPLAY", "HOSTNAME", "VIRTUAL_ENV", "CONDA_DEFAULT_ENV"),
        *("PYTHONPATH", "JAVA_HOME", "GOPATH", "CARGO_HOME", "NODE_ENV", "CC", "CXX", "MAKEFLAGS"),
        *("CUDA_HOME", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "OMP_NUM_THREADS", "CI"),
    }
)
_PREFIXES: Final = ("LC_", "XDG_")
_MOST_CHARACTERS: Final = 2000
_USER_IN_ADDRESS: Final = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_KEY: Final = re.compile(r"(?:sk|pk|rk|ghp|gho|ghs|glpat|xox[a-z]|hf|AKIA|ASIA|AIza|eyJ)[-_A-Za-z0-9]{12,}")
_WORD: Final = re.compile(r"[A-Za-z0-9+=_-]{20,}")
_RANDOM_BITS: Final = 3.7
"""Bits of entropy a character: words and paths have fewer, keys more."""
MASK: Final = "***"


def is_shown(name: str) -> bool:
    """Tell if the value of a variable may be shown, by its name."""
    return name.upper() in SHOWN or name.startswith(_PREFIXES)


def masked(value: str) -> str:
    """Return a value with what looks like a key, a password or a token in it replaced."""
    value = _KEY.sub(MASK, _USER_IN_ADDRESS.sub(MASK, value[:_MOST_CHARACTERS]))
    return _WORD.sub(lambda found: MASK if _looks_random(found[0]) else found[0], value)


def told(environment: Mapping[str, str]) -> dict[str, str | None]:
    """Return the environment as a tool may tell of it: each name, and a value where it is shown."""
    return {name: masked(value) if is_shown(name) else None for name, value in environment.items()}


def to_json(environment: Mapping[str, str]) -> str:
    """Return the same as the text of `VARIABLE`. A name that is no text is left out."""
    return json.dumps({name: value for name, value in told(environment).items() if name.isprintable()})


def from_environment(environment: Mapping[str, str]) -> dict[str, str | None]:
    """Return what the daemon has told this worker; without a daemon, what there is here."""
    text = environment.get(VARIABLE)
    if text is None:
        return told(environment)
    values: dict[str, str | None] = json.loads(text)
    return values


def _looks_random(word: str) -> bool:
    kinds = sum(any(test(each) for each in word) for test in (str.isdigit, str.isupper, str.islower))
    counts = [word.count(each) for each in set(word)]
    bits = -sum(count / len(word) * math.log2(count / len(word)) for count in counts)
    is_hex = len(word) >= 32 and all(each in "0123456789abcdefABCDEF" for each in word)
    return is_hex or (kinds >= 2 and any(map(str.isdigit, word)) and bits >= _RANDOM_BITS)
