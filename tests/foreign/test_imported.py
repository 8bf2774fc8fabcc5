"""Lists of other programs as epad's configuration: it is read by epad, and holds no secret."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest

from epad.foreign.imported import ImportFileError, as_toml

CLAUDE = {
    "mcpServers": {
        "filesystem": {
            "command": "npx",
            "args": ["-y", "@modelcontextprotocol/server-filesystem", "/home/me/a b"],
        },
        "git": {"command": "uvx", "args": ["mcp-server-git"]},
        "Git": {"command": "uvx", "args": ["mcp-server-git"]},
        "GitHub (work)": {
            "command": "docker",
            "args": ["run"],
            "env": {"GITHUB_TOKEN": "ghp_abc", "MODE": 'a"b\\'},
        },
        "7zip": {"command": "x", "disabled": True},
        "far": {
            "type": "http",
            "url": "https://m.example/mcp",
            "headers": {"Authorization": "Bearer s3cr3t"},
        },
        "old": {"type": "sse", "url": "https://m.example/sse"},
        "nothing": {},
        "wrong": 7,
        "evil\n[tools]\nenabled = false": {"command": "a\n[x]", "args": ["\u202e", "\x7f", 5]},
    }
}


def read(told: object) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads("\n".join(as_toml(told)))
    return found


def test_all_of_a_list_is_there() -> None:
    servers = read(CLAUDE)["tools"]["servers"]
    assert set(servers) == {
        "filesystem", "mcp-git", "mcp-git-2", "github-work", "mcp-7zip", "far", "old", "evil-tools-enabled-false",
    }  # fmt: skip
    assert servers["filesystem"]["command"][-1] == "/home/me/a b"
    assert servers["filesystem"]["hosts"] == ["registry.npmjs.org"]
    assert servers["github-work"]["environment"] == {
        "GITHUB_TOKEN": "{{secret:github_work_github_token}}",
        "MODE": 'a"b\\',
    }
    assert servers["far"]["headers"] == {"Authorization": "Bearer {{secret:far_authorization}}"}
    assert servers["evil-tools-enabled-false"]["command"] == ["a\n[x]", "\u202e", "\x7f", "5"]
    assert read(CLAUDE).keys() == {"tools"}


def test_no_secret_is_printed() -> None:
    text = "\n".join(as_toml(CLAUDE))
    assert "ghp_abc" not in text
    assert "s3cr3t" not in text


@pytest.mark.parametrize("key", ["mcpServers", "servers", "context_servers"])
def test_other_programs_have_other_keys(key: str) -> None:
    assert read({key: {"a": {"command": "x"}}})["tools"]["servers"] == {"a": {"command": ["x"]}}
    assert read({"mcp": {key: {"a": {"command": "x"}}}})["tools"]["servers"]


@pytest.mark.parametrize(
    "told", [None, [], {}, {"mcpServers": {}}, {"mcpServers": []}, json.loads('{"a": 1}')]
)
def test_what_has_no_servers_says_so(told: object) -> None:
    with pytest.raises(ImportFileError):
        as_toml(told)
