"""The messages are those of the specification: what they write, another's implementation of them reads, and back."""

from __future__ import annotations

import pytest
from spiffe._proto import workload_pb2

from runners.identity.workload_messages import MESSAGES


@pytest.mark.parametrize("name", MESSAGES)
def test_every_field_is_another_implementations(name: str) -> None:
    """By name, number, type and label."""
    theirs = getattr(workload_pb2, name).DESCRIPTOR

    def fields(descriptor):
        return {
            (one.name, one.number, one.type, one.is_repeated, one.message_type and one.message_type.name)
            for one in descriptor.fields
        }

    assert fields(MESSAGES[name].DESCRIPTOR) == fields(theirs)


def test_no_method_of_the_specification_lacks_its_messages() -> None:
    """All but those of WIT-SVIDs, which nobody asks for yet."""
    known = set(workload_pb2.DESCRIPTOR.message_types_by_name)
    assert {name for name in known - MESSAGES.keys() if not name.startswith("WIT")} == set()


def test_what_is_written_is_read() -> None:
    ours = MESSAGES["ValidateJWTSVIDResponse"](spiffe_id="spiffe://a/b")
    ours.claims.update({"aud": ["x"], "exp": 1.0})
    theirs = workload_pb2.ValidateJWTSVIDResponse.FromString(ours.SerializeToString())
    assert (theirs.spiffe_id, list(theirs.claims["aud"])) == ("spiffe://a/b", ["x"])
    assert MESSAGES["ValidateJWTSVIDResponse"].FromString(theirs.SerializeToString()) == ours
