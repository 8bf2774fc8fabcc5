"""The list of tools: what is advertised is what is checked, small, and the same at each start."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Annotated, Any

import msgspec
import pytest

from runners.tools import catalogue, files
from runners.tools.signature import END, Args, Result, ToolError, checked, meta, object_schema

EXPECTED = {
    "api": "api_test graphql_query openapi_parse websocket_send",
    "browser": "browser_click browser_close browser_evaluate browser_fill browser_navigate browser_screenshot"
    " browser_snapshot",
    "code": "code_complexity code_dead_code code_dependency_graph code_format code_lint code_outline",
    "archive": "archive_list tar_create tar_extract zip_create zip_extract",
    "crypto": "generate_secret hmac_sign password_hash uuid_generate",
    "comms": "comms_channels comms_post comms_read",
    "data": "csv_parse ini_parse json_format json_query toml_parse xml_parse yaml_parse",
    "database": "sqlite_query sqlite_schema sqlite_tables",
    "docker": "docker_exec docker_images docker_inspect docker_logs docker_ps docker_run docker_stats docker_stop",
    "epa": "epa_budget epa_explain epa_report epa_status",
    "files": "file_append file_copy file_delete file_head file_list file_move file_read file_stat file_tail file_wc"
    " file_write",
    "git": "git_blame git_branch git_checkout git_commit git_diff git_log git_show git_stash git_status git_tag",
    "http": "curl_equivalent dns_lookup http_fetch http_request url_encode",
    "monitor": "health_probe logs_tail service_status uptime_check",
    "memory": "memory_delete memory_get memory_list memory_observe memory_relate memory_search memory_store",
    "ollama": "ollama_generate ollama_models",
    "prompt": "message_format prompt_build prompt_chain prompt_library",
    "notebook": "notebook_add_cell notebook_create notebook_read",
    "search": "find_files find_references find_symbol glob grep_recursive search_replace",
    "tasks": "task_complete task_create task_list task_update",
    "system": "disk_usage env_vars gpu_info network_interfaces port_check process_list system_info",
    "text": "base64_convert hash_data regex_match regex_replace string_transform text_diff text_split token_estimate",
    "thinking": "assumption_check decision_matrix pros_cons sequential_think",
    "vault": "vault_search",
    "websearch": "web_search",
}
LIST_BYTES = 48 << 10
OF_TOOLS = 128
DEFINITIONS = catalogue.definitions()


def seen(definition: dict[str, Any]) -> dict[str, Any]:
    """Return what tools/list carries of a definition."""
    return {key: definition[key] for key in ("name", "description", "inputSchema")}


@pytest.mark.parametrize("category", EXPECTED)
def test_each_category_has_its_tools(category: str) -> None:
    """The list of the design, tool by tool."""
    found = sorted(each["name"] for each in DEFINITIONS if each["category"] == category)
    assert found == sorted(EXPECTED[category].split())


def test_every_function_has_the_one_signature() -> None:
    """`async def NAME(args: dict) -> dict`, in the module of its category."""
    for category in catalogue.CATEGORIES:
        module = importlib.import_module(f"runners.tools.{category}")
        for entry in module.TOOLS:
            function = getattr(module, entry.name)
            assert inspect.iscoroutinefunction(function)
            assert list(inspect.signature(function).parameters) == ["args"]


def test_a_function_without_its_metadata_is_found() -> None:
    """A module that lists a tool it does not have cannot be loaded, and a wrong name cannot be wrapped."""

    async def wrong(args: files.ReadArgs) -> files.ReadResult:
        raise NotImplementedError

    with pytest.raises(ValueError, match="lists 'file_read'"):
        catalogue.function_of(ModuleType("empty"), files.FILE_READ)
    with pytest.raises(ValueError, match="below the metadata of 'file_read'"):
        files.FILE_READ.tool(wrong)
    with pytest.raises(ValueError, match="no category 'nope'"):
        catalogue.load(["nope"])


def test_descriptions_are_short_and_the_list_fits() -> None:
    """All 127 are to fit into 48 KiB: these take no more than their share of it."""
    sizes = [len(msgspec.json.encode(seen(each))) for each in DEFINITIONS]
    assert sum(sizes) <= LIST_BYTES * len(sizes) / OF_TOOLS
    with pytest.raises(ValueError, match="over 200 bytes"):
        meta("long", Args, Result, risk="P", timeout=1, description="x" * 201, examples=({},))
    with pytest.raises(ValueError, match="no example"):
        meta("bare", Args, Result, risk="P", timeout=1, description="x", examples=())


def test_schemas_have_an_object_at_their_root_and_no_noise() -> None:
    """MCP wants the root's type, and titles only repeat names."""
    for each in DEFINITIONS:
        for schema in (each["inputSchema"], each["outputSchema"]):
            assert schema["type"] == "object"
            assert not {"$ref", "title", "$defs"} & _keys(schema)
        assert each["inputSchema"]["additionalProperties"] is False


def _keys(schema: Any) -> set[str]:
    if isinstance(schema, list):
        return set().union(*map(_keys, schema))
    if not isinstance(schema, dict):
        return set()
    below = [value for key, value in schema.items() if key != "properties"]
    below += list(schema.get("properties", {}).values())
    return set(schema).union(*map(_keys, below))


def test_a_type_that_holds_itself_has_a_finite_schema() -> None:
    """Its inner values are told as any object."""

    class Node(msgspec.Struct):
        below: list[Any] = []

    assert object_schema(Node)["properties"]["below"]["type"] == "array"


class Names(Args, frozen=True, kw_only=True):
    """Holds a text of one form."""

    name: Annotated[str, msgspec.Meta(pattern="^a" + END)]


def checked_patterns(arguments: type[msgspec.Struct]) -> list[str]:
    """Return the patterns that arguments are checked by, as they are before they are advertised."""

    def within(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if isinstance(value.get("pattern"), str):
                yield value["pattern"]
            for each in value.values():
                yield from within(each)
        elif isinstance(value, list):
            for each in value:
                yield from within(each)

    return list(within(list(msgspec.json.schema_components([arguments]))[1]))


def test_no_pattern_takes_a_line_break_at_the_end() -> None:
    """Python's `$` would: a method with one splits a request's head, a channel with one is another channel."""
    told = checked_patterns(Names)
    assert told == [f"^a{END}"]
    modules = [importlib.import_module(f"runners.tools.{category}") for category in catalogue.CATEGORIES]
    every = [one for module in modules for each in module.TOOLS for one in checked_patterns(each.args)]
    assert len(every) > 5
    assert [pattern for pattern in every if not pattern.endswith(END)] == []
    assert checked(Names, {"name": "a"}).name == "a"
    with pytest.raises(ToolError):
        checked(Names, {"name": "a\n"})
    assert object_schema(Names)["properties"]["name"]["pattern"] == "^a$"


def test_the_list_is_the_same_byte_for_byte_at_each_start() -> None:
    """A provider's cache of prompts lives of that."""
    printed = [
        subprocess.run(
            [sys.executable, "-m", "runners.tools", "--catalogue"],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert printed[0] == printed[1]
    names = [each["name"] for each in json.loads(printed[0])]
    assert names == sorted(names)
    assert [each["sha256"] for each in json.loads(printed[0])] == [each["sha256"] for each in DEFINITIONS]


def test_the_hash_changes_with_what_a_caller_sees() -> None:
    """Another category or another description is another definition."""
    assert files.FILE_READ.definition("files")["sha256"] != files.FILE_READ.definition("other")["sha256"]


def test_an_unknown_category_ends_the_program_with_a_sentence() -> None:
    """And none at all, too."""
    for argument, said in (("nope", "there is no category 'nope'"), ("", "no category")):
        done = subprocess.run(
            [sys.executable, "-m", "runners.tools", argument], capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert said in done.stderr
