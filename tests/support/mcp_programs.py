"""Programs of npm that speak MCP, as tests run them; `.ci/npm/package.json` names their versions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("EPAD_MCP_CONFORMANCE") or Path(__file__).parents[2] / ".ci/npm")
MODULES = FOLDER / "node_modules"
NODE = MODULES / ".bin/node"
SUITE = MODULES / "@modelcontextprotocol/conformance/dist/index.js"


def without(*packages: str) -> pytest.MarkDecorator:
    """Skip a test where a package of the protocol's makers is not installed."""
    there = NODE.exists() and all((MODULES / "@modelcontextprotocol" / name).exists() for name in packages)
    return pytest.mark.skipif(not there, reason="the MCP programs of npm are not installed (.ci/npm)")
