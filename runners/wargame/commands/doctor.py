"""Measure the endpoints before a night depends on them: `wargame doctor`."""

from __future__ import annotations

import argparse
import asyncio
import json
from dataclasses import asdict

from runners.wargame.commands.arguments import Commands, add_plan
from runners.wargame.commands.exits import Exit
from runners.wargame.configuration import Plan, resolve
from runners.wargame.endpoint.doctor import Finding, examine
from runners.wargame.endpoint.opening import open_pool
from runners.wargame.endpoint.pool import Pool
from runners.wargame.settings import IN_PROCESS


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    doctor = commands.add_parser("doctor", help="measure the parallel calls of each endpoint, and advise")
    doctor.set_defaults(command=look)
    add_plan(doctor)
    doctor.add_argument("--json", action="store_true", help="JSON instead of text")


def look(options: argparse.Namespace) -> Exit:
    """Look at every endpoint and model; the exit status is 1 if one cannot be used."""
    findings = asyncio.run(_look(resolve(options), as_json=options.json))
    if options.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    return Exit.FAILED if any(finding.level == "fail" for finding in findings) else Exit.OK


async def _look(plan: Plan, *, as_json: bool) -> list[Finding]:
    findings, judges = [], {role.model for role in plan.settings.roles}
    async with open_pool(plan.endpoints, plan.limits) as pool:
        for name, models in _models(plan, pool).items():
            async for finding in examine(pool.clients[name], models, judges):
                findings.append(finding)
                if not as_json:
                    print(finding, flush=True)
    return findings


def _models(plan: Plan, pool: Pool) -> dict[str, list[str]]:
    """Return the models asked at each endpoint."""
    asked = [(role.endpoint, role.model) for role in plan.settings.roles]
    asked += [(plan.attacker_endpoint, m) for m in (plan.settings.attacker_model, plan.settings.target_model)]
    wanted: dict[str, list[str]] = {}
    for endpoint, model in dict.fromkeys(asked):
        if model not in {"", IN_PROCESS}:
            wanted.setdefault(pool.client(endpoint).endpoint.name, []).append(model)
    return wanted
