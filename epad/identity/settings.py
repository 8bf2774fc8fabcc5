"""Read the settings of workload identity, and find what they lack here."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

from epad.configuration.identity_schema import IdentityConfig

PACKAGES: Final = {
    "grpclib": "grpclib",
    "cryptography": "cryptography",
    "jwt": "PyJWT",
    "google.protobuf": "protobuf",
}
"""The packages of the extra `identity`, by the names that they are imported by."""
FIX: Final = "pip install 'epad[identity]'"
_UNIX: Final = "unix://"


def agent_path(config: IdentityConfig) -> str:
    """Return the path of the SPIRE agent's socket; empty where epad's own Workload API is served."""
    return config.socket.removeprefix(_UNIX)


def missing_packages() -> list[str]:
    """Return the packages of the extra that are not installed."""
    return [package for name, package in PACKAGES.items() if not _is_there(name)]


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # the package above it is not there
        return False
