"""The kinds of values that settings take, each with its bounds; msgspec holds them where it reads a value.

A setting with bounds of its own writes them in its place: `Annotated[int, Meta(ge=3, extra={WHY: "two are no row"})]`.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta

WHY: Final = "why"
"""The key in `Meta.extra` of the reason for a bound, which an error message ends with."""

Seconds = Annotated[float, Meta(gt=0)]
Ratio = Annotated[float, Meta(ge=0, le=1)]
Share = Annotated[float, Meta(gt=0, le=1)]
Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]
Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
