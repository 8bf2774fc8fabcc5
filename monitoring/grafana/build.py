"""Builds the Grafana dashboard: `python monitoring/grafana/build.py > monitoring/grafana/epad.json`.

grafana_foundation_sdk is pinned: pip's newest by number is one for Grafana 10.1 with an epoch version.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef, GridPos

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
HERE = '{instance=~"$instance"}'
WIDTH = 24
_ADDED = f"epad_gateway_added_seconds_bucket{HERE}"
_TOOL_SECONDS = f"epad_tool_call_seconds_bucket{HERE}"
_TOOL_SECONDS_ALL = 'epad_tool_call_seconds_bucket{instance=~"$instance", le="+Inf"}'


@dataclass(frozen=True)
class Panel:
    """One panel: its title, unit, width and height in the grid, and its queries with their legends."""

    title: str
    unit: str
    width: int
    height: int
    queries: tuple[tuple[str, str], ...]
    kind: str = "timeseries"
    description: str = ""


ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "Phase",
        (
            Panel("Phase", "short", 16, 6, ((f"epad_phase{HERE} == 1", "{{phase}}"),), "statetimeline"),
            Panel("Anomalies", "short", 4, 6, ((f"sum(epad_anomaly_active{HERE})", ""),), "stat"),
            Panel("Ledger intact", "bool_yes_no", 4, 6, ((f"min(epad_ledger_intact{HERE})", ""),), "stat"),
        ),
    ),
    (
        "Tokens",
        (
            Panel(
                "Token burn",
                "short",
                12,
                8,
                ((f"sum by (subsystem) (rate(epad_tokens_total{HERE}[$__rate_interval]))", "{{subsystem}}"),),
                description="Tokens charged, a second.",
            ),
            Panel(
                "Budget used",
                "percentunit",
                12,
                8,
                (
                    (
                        f"epad_token_budget_used_tokens{HERE} / (epad_token_budget_limit_tokens{HERE} > 0)",
                        "{{subsystem}} {{window}}",
                    ),
                ),
                description="Spent and reserved, of each token budget.",
            ),
            Panel(
                "Money",
                "currencyUSD",
                24,
                7,
                (
                    (
                        f"sum by (subsystem) (increase(epad_cost_microusd_total{HERE}[1h])) / 1e6",
                        "{{subsystem}}",
                    ),
                ),
                description="Charged by the price table within the last hour; nothing for models without a price.",
            ),
            Panel(
                "Turns",
                "reqps",
                12,
                7,
                ((f"sum by (outcome) (rate(epad_turns_total{HERE}[$__rate_interval]))", "{{outcome}}"),),
            ),
            Panel(
                "Added by the gateway",
                "s",
                12,
                7,
                tuple(
                    (f"histogram_quantile({q}, sum by (le) (rate({_ADDED}[$__rate_interval])))", f"p{q[2:]}")
                    for q in ("0.50", "0.99")
                ),
            ),
        ),
    ),
    (
        "Subsystems",
        (
            Panel(
                "State",
                "short",
                24,
                8,
                ((f"epad_subsystem_state{HERE} == 1", "{{subsystem}} {{state}}"),),
                "statetimeline",
            ),
            Panel("Progress", "short", 12, 7, ((f"epad_subsystem_progress_done{HERE}", "{{subsystem}}"),)),
            Panel(
                "Memory",
                "bytes",
                12,
                7,
                ((f"epad_subsystem_memory_bytes{HERE}", "{{subsystem}}"),),
                description="Anonymous and shared memory of each subsystem's processes; no page cache.",
            ),
            Panel(
                "CPU",
                "percentunit",
                12,
                7,
                ((f"rate(epad_subsystem_cpu_seconds_total{HERE}[$__rate_interval])", "{{subsystem}}"),),
                description="Of one core.",
            ),
            Panel("Turns in flight", "short", 12, 7, ((f"epad_turns_in_flight{HERE}", "{{subsystem}}"),)),
        ),
    ),
    (
        "Tools",
        (
            Panel(
                "Calls",
                "reqps",
                12,
                7,
                (
                    (
                        f"sum by (category) (rate({_TOOL_SECONDS_ALL}[$__rate_interval]))",
                        "{{category}}",
                    ),
                ),
                description="Calls that a worker has had, by the category of the tool.",
            ),
            Panel(
                "Seconds of a call",
                "s",
                12,
                7,
                (
                    (
                        f"histogram_quantile(0.99, sum by (le, category) (rate({_TOOL_SECONDS}[$__rate_interval])))",
                        "{{category}}",
                    ),
                ),
                description="99 of 100 calls are as fast.",
            ),
            Panel("Workers", "short", 24, 6, ((f"epad_tool_workers{HERE}", "{{category}}"),)),
        ),
    ),
    (
        "House",
        (
            Panel(
                "Probes that see",
                "short",
                12,
                6,
                ((f"epad_probe_success{HERE}", "{{probe}}"),),
                "statetimeline",
            ),
            Panel("Ledger records", "short", 6, 6, ((f"epad_ledger_entries{HERE}", ""),)),
            Panel(
                "Since the ledger was verified",
                "s",
                6,
                6,
                ((f"time() - epad_ledger_last_verified_timestamp_seconds{HERE}", ""),),
            ),
        ),
    ),
    (
        "GPU",
        (Panel("VRAM used", "bytes", 24, 7, ((f"epad_gpu_memory_used_bytes{HERE}", "GPU {{gpu}}"),)),),
    ),
)

_BUILDERS = {"timeseries": timeseries.Panel, "stat": stat.Panel, "statetimeline": statetimeline.Panel}


def _target(index: int, expr: str, legend: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(expr).legend_format(legend).ref_id(chr(ord("A") + index))


def build() -> str:
    """The dashboard as JSON, the same bytes each time."""
    board = (
        dashboard.Dashboard("epad")
        .uid("epad-overview")
        .tags(["epad"])
        .refresh("30s")
        .time("now-6h", "now")
        .with_variable(dashboard.DatasourceVariable("datasource").type("prometheus"))
        .with_variable(
            dashboard.QueryVariable("instance")
            .datasource(SOURCE)
            .query("label_values(epad_build_info, instance)")
            .multi(True)
            .include_all(True)
        )
    )
    number, y = 0, 0
    for title, panels in ROWS:
        number += 1
        board = board.with_row(dashboard.Row(title).id(number).grid_pos(GridPos(h=1, w=WIDTH, x=0, y=y)))
        y, x, row_height = y + 1, 0, 0
        for panel in panels:
            number += 1
            if x + panel.width > WIDTH:
                x, y, row_height = 0, y + row_height, 0
            builder = (
                _BUILDERS[panel.kind]().title(panel.title).id(number).unit(panel.unit).datasource(SOURCE)
            )
            builder = builder.description(panel.description).grid_pos(
                GridPos(h=panel.height, w=panel.width, x=x, y=y)
            )
            for index, (expr, legend) in enumerate(panel.queries):
                builder = builder.with_target(_target(index, expr, legend))
            board = board.with_panel(builder)
            x, row_height = x + panel.width, max(row_height, panel.height)
        y += row_height
    return str(JSONEncoder(sort_keys=True, indent=2).encode(board.build())) + "\n"


if __name__ == "__main__":
    sys.stdout.write(build())
