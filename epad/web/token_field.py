"""Ask for what lets a form give orders: the token, unless a reverse proxy has signed the person in."""

from __future__ import annotations

from epad.web.html import Html, tag

SIGNED_IN = "your sign-in"
"""Stands for the token's file where a proxy vouches for the person, who then types no token."""


def token_field(token_file: str) -> Html:
    """Render the field for the token, or say that none is needed."""
    if token_file == SIGNED_IN:
        return tag("p", "Orders are recorded by your name, from ", SIGNED_IN, ".")
    return tag(
        "label",
        "Token, from ",
        tag("code", token_file),
        tag("input", name="token", type="password", required=True, autocomplete="off"),
    )
