"""Which secrets a door has: known by a digest, and kept by the door when its rules alone change."""

from __future__ import annotations

from epad.confinement.door_secrets import DoorSecrets
from runners.egress.door import Door
from runners.egress.messages import OpenDoor, Secret, read_order, write_order
from runners.egress.network import SystemNetwork

TOKEN = Secret("token", ("a.example",), "s3cr3t-of-a-test")


def test_a_door_is_given_what_it_has_not() -> None:
    """A new value, another host, or the first ones; nothing of a value is kept for that."""
    known = DoorSecrets()
    assert known.differ("agent", (TOKEN,))
    known.given("agent", (TOKEN,))
    assert not known.differ("agent", (TOKEN,))
    assert known.has("agent")
    assert known.differ("agent", (Secret("token", ("a.example",), "another"),))
    assert known.differ("agent", (Secret("token", ("b.example",), TOKEN.value),))
    assert TOKEN.value not in repr(vars(known))
    known.forget("agent")
    assert known.differ("agent", (TOKEN,))


async def test_a_change_of_rules_alone_leaves_a_door_its_secrets() -> None:
    """None says so; an empty list takes them away."""
    door = Door(OpenDoor("agent", (), secrets=(TOKEN,)), SystemNetwork(), lambda _: None)
    for secrets, left in ((None, (TOKEN,)), ((), ())):
        order = read_order(write_order(OpenDoor("agent", ("a.example",), secrets=secrets)))
        assert isinstance(order, OpenDoor)
        door.change(order)
        assert door.secrets == left
