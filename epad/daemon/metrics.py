"""The daemon's own series, and all that the rooms declare: what a scrape shows."""

from __future__ import annotations

from collections.abc import Iterable

import epad.checkpoint.metrics
import epad.confinement.metrics
import epad.control_loop.metrics
import epad.datastore.metrics
import epad.gateway.metrics
import epad.identity.metrics
import epad.incidents.metrics
import epad.intent.metrics
import epad.ledger.metrics
import epad.operations.metrics
import epad.probing.metrics
import epad.response.metrics
import epad.tools.metrics
from epad import __version__
from epad.metrics.family import counter, families_of, gauge
from epad.metrics.registry import Metrics

BUILD_INFO = gauge("epad_build_info", "Always 1; the labels say what runs.", "version")
LOOP_LAGS = counter("epad_loop_lags_total", "Times the event loop stood still.")
CLOCK_JUMPS = counter("epad_clock_jumps_total", "Times the wall clock was set.")

_ROOMS = (
    epad.control_loop.metrics,
    epad.response.metrics,
    epad.checkpoint.metrics,
    epad.gateway.metrics,
    epad.incidents.metrics,
    epad.probing.metrics,
    epad.ledger.metrics,
    epad.datastore.metrics,
    epad.confinement.metrics,
    epad.operations.metrics,
    epad.tools.metrics,
    epad.identity.metrics,
    epad.intent.metrics,
)

FAMILIES = tuple(families_of([*globals().values(), *(one for room in _ROOMS for one in vars(room).values())]))
"""Every family of every room."""


def make_metrics(subsystems: Iterable[str]) -> Metrics:
    """Return all series, with those of these subsystems that are there from the start."""
    metrics = Metrics(FAMILIES, subsystems)
    metrics.of(BUILD_INFO).labels(__version__).set(1)
    return metrics
