"""Every error that a person may read is of one family."""

from __future__ import annotations

import ast

import pytest
from rooms import parsed

from epad import EpadError

# They end in the room that raises them: as an answer of the gateway to its client, or as the end of a work.
CONTROL_FLOW = {"BrokenTurnError", "KeyReusedError", "RefusalError", "StoppedError"}


def of_no_family(tree: ast.Module) -> set[str]:
    """The public errors of a file that have no base but Python's."""
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
        if [ast.unparse(base) for base in node.bases] == ["Exception"]
    } - {"EpadError"}


def test_every_public_error_is_of_the_family() -> None:
    """But for those that only steer."""
    assert set().union(*map(of_no_family, parsed().values())) == CONTROL_FLOW


def test_a_planted_error_of_no_family_is_found() -> None:
    """One of the family and a private one are none."""
    code = "class AError(Exception): ...\nclass BError(EpadError): ...\nclass _CError(Exception): ..."
    assert of_no_family(ast.parse(code)) == {"AError"}


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (EpadError("it is gone"), "it is gone"),
        (EpadError("it is gone", "make it again"), "it is gone; make it again"),
        (EpadError("in use", "choose another", where="web.listen"), "web.listen: in use; choose another"),
        (EpadError("in use", where="web.listen"), "web.listen: in use"),
    ],
)
def test_an_error_says_what_where_and_the_fix(error: EpadError, text: str) -> None:
    """In this order, as far as it knows them."""
    assert str(error) == text
