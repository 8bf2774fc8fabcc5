"""Sizes of memory as a person writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import ValidationError, convert

from epad.configuration.sizes import Size, size_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (0, 0),
        (4_096, 4_096),
        ("4GiB", 4 << 30),
        ("4 GiB", 4 << 30),
        ("4G", 4 << 30),
        ("4GB", 4_000_000_000),
        ("1.5GiB", 3 << 29),
        ("512M", 512 << 20),
        ("100B", 100),
        ("100", 100),
        ("2TiB", 2 << 40),
        ("64K", 65_536),
    ],
)
def test_a_size_has_a_unit_or_is_bytes(text: int | str, size: int) -> None:
    """K is 1024 as in systemd, KB is 1000."""
    assert size_bytes(convert(text, Size)) == size


@pytest.mark.parametrize("text", ["4gib", "GiB", "4 G iB", "-1G", "4GiB ", "1e9", "", "4PiB", -1, 1.5, True])
def test_what_is_no_size_is_refused(text: object) -> None:
    """By the configuration already."""
    with pytest.raises(ValidationError):
        convert(text, Size)


@given(st.integers(0, 1 << 50))
def test_bytes_are_themselves(size: int) -> None:
    """As a number and as a text."""
    assert size_bytes(size) == size_bytes(str(size)) == size_bytes(f"{size}B") == size
