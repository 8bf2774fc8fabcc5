"""The labels that results give: every tool there is, by a list of this test's own."""

from __future__ import annotations

from epad.gate.tool_labels import each, heard, in_words, labels_of
from epad.gate.tool_risk import ToolRisk, gravest
from epad.gate.tool_table import BOTH, Taint
from runners.tools.catalogue import CATEGORIES, load

# Written down a second time: a tool that is added must be put here, knowingly.
UNTRUSTED = frozenset(
    {
        "http_fetch", "http_request", "dns_lookup", "web_search", "openapi_parse", "api_test",
        "graphql_query", "websocket_send", "health_probe", "browser_navigate", "browser_click",
        "browser_fill", "browser_snapshot", "browser_screenshot", "browser_evaluate", "docker_run",
        "docker_exec", "archive_list", "tar_extract", "zip_extract",
    }
)  # fmt: skip
PRIVATE = frozenset(
    {
        "env_vars", "process_list", "system_info", "disk_usage", "gpu_info", "network_interfaces",
        "port_check", "docker_ps", "docker_images", "docker_inspect", "docker_stats", "service_status",
        "uptime_check", "hmac_sign",
    }
)  # fmt: skip
BOTH_AT_ONCE = frozenset(
    {
        "sqlite_query", "sqlite_schema", "sqlite_tables", "docker_logs", "logs_tail",
    }
)  # fmt: skip


def test_each_tool_gives_the_labels_of_its_content() -> None:
    found: dict[Taint, set[str]] = {}
    for name, tool in load(CATEGORIES).items():
        labels = labels_of(gravest(tool.meta.risk), tool.category, name)
        found.setdefault(labels, set()).add(name)
    assert found[Taint.UNTRUSTED] == UNTRUSTED
    assert found[Taint.PRIVATE] == PRIVATE
    assert found[BOTH] == BOTH_AT_ONCE


def test_a_definition_that_says_so_is_untrusted_whatever_its_risk() -> None:
    """A foreign server's."""
    for risk in ToolRisk:
        assert Taint.UNTRUSTED in labels_of(risk, untrusted=True)
        assert labels_of(risk, untrusted=True) >= labels_of(risk)


def test_what_others_say_has_their_labels_and_no_authority_flows_up() -> None:
    assert heard(Taint.NONE) is Taint.NONE
    assert heard(Taint.PRIVATE, lower=True) == BOTH
    assert heard(Taint.UNTRUSTED) == Taint.UNTRUSTED
    assert heard(Taint.NONE, shared=True) == Taint.PRIVATE


def test_labels_are_read_one_by_one() -> None:
    assert [in_words(one) for one in each(BOTH)] == ["untrusted", "private"]
    assert (in_words(BOTH), in_words(Taint.NONE)) == ("untrusted and private", "none")
