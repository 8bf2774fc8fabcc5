"""The kinds of values that configuration keys take, each with its bounds."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

Seconds = Annotated[float, Meta(gt=0)]
Ratio = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1)]
Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
Address = Annotated[str, Meta(pattern=r"^(\[[0-9a-fA-F:]+\]|[^:/\s]+):\d{1,5}$")]
Positive = Annotated[float, Meta(gt=0)]
RungName = Literal["open", "throttle", "block", "freeze", "release_vram", "stop"]
Limit = Annotated[int, Meta(ge=0, le=2**53)]  # 0 is none; up to 2**53 a float, as JSON may have it, is exact
Dollars = Annotated[float, Meta(ge=0, le=1e9)]  # in micro-USD this fits 53 bits, so it is exact
Listener = Annotated[str, Meta(pattern=r"^$|^unix:/\S+$|^(\[[0-9a-fA-F:]+\]|[^:/\s]+):\d{1,5}$")]

CheckUrl = Annotated[str, Meta(pattern=r"^$|^https?://\S+$")]
CheckAddress = Annotated[str, Meta(pattern=r"^$|^(\[[0-9a-fA-F:]+\]|[^:/\s]+):\d{1,5}$")]
