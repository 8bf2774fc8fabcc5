"""A configuration that an earlier epad has recorded is read; what that one did not know is as shipped."""

from __future__ import annotations

import msgspec
import pytest
from shipped_settings import CONFIG

from epad.configuration.recorded import read_recorded


def test_a_key_that_was_not_there_yet_is_as_shipped() -> None:
    """A key of a table, a table of a probe, and a whole table; what was recorded stays."""
    tables = msgspec.to_builtins(CONFIG)
    tables["probes"]["cascade"] |= {"crashes": 7}
    del tables["probes"]["cascade"]["row_crashes"]
    del tables["probes"]["memory"]
    del tables["schedule"]
    read = read_recorded(msgspec.json.encode(tables))
    assert read.probes.cascade == msgspec.structs.replace(CONFIG.probes.cascade, crashes=7)
    assert msgspec.structs.replace(read, probes=CONFIG.probes) == CONFIG


def test_names_are_not_filled_in() -> None:
    """Whoever had no word on a detector had it contain: the shipped word of today was not theirs."""
    tables = msgspec.to_builtins(CONFIG)
    del tables["probes"]["token_burn"]["enforce"]["busy_cusum"]
    del tables["hysteresis"]["memory"]
    read = read_recorded(msgspec.json.encode(tables))
    assert "busy_cusum" not in read.probes.token_burn.enforce
    assert "memory" not in read.hysteresis


def test_a_key_that_there_is_no_more_is_told() -> None:
    tables = msgspec.to_builtins(CONFIG)
    tables["probes"]["host"]["moon"] = 1
    with pytest.raises(msgspec.ValidationError, match="moon"):
        read_recorded(msgspec.json.encode(tables))
