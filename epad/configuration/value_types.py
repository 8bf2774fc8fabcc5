"""The kinds of values that only the daemon's own tables take; `statemachine/value_types.py` has the others."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

Address = Annotated[str, Meta(pattern=r"^(\[[0-9a-fA-F:]+\]|[^:/\s]+):\d{1,5}$")]
Limit = Annotated[int, Meta(ge=0, le=2**53)]  # 0 is none; up to 2**53 a float, as JSON may have it, is exact
Dollars = Annotated[float, Meta(ge=0, le=1e9)]  # in micro-USD this fits 53 bits, so it is exact
Listener = Annotated[str, Meta(pattern=r"^$|^unix:/\S+$|^(\[[0-9a-fA-F:]+\]|[^:/\s]+):\d{1,5}$")]

CheckUrl = Annotated[str, Meta(pattern=r"^$|^https?://\S+$")]
CheckAddress = Annotated[str, Meta(pattern=r"^$|^(\[[0-9a-fA-F:]+\]|[^:/\s]+):\d{1,5}$")]
