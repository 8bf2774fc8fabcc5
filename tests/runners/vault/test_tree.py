"""The Merkle tree of the vault's rows, beside the definition in RFC 6962 and the ledger's own."""

from __future__ import annotations

from hashlib import sha256

from epad.ledger.tree import Frontier
from runners.vault.tree import Tree


def by_definition(leaves: list[bytes]) -> bytes:
    if not leaves:
        return sha256().digest()
    if len(leaves) == 1:
        return sha256(b"\0" + leaves[0]).digest()
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    return sha256(b"\1" + by_definition(leaves[:half]) + by_definition(leaves[half:])).digest()


def test_each_root_is_that_of_the_definition() -> None:
    tree, leaves = Tree(), list[bytes]()
    for number in range(70):
        assert tree.root() == by_definition(leaves)
        leaves.append(bytes([number] * 32))
        tree.add(leaves[-1])
    assert tree.size == 70


def test_it_is_the_tree_that_the_ledger_grows() -> None:
    tree, frontier = Tree(), Frontier()
    for number in range(37):
        tree.add(bytes([number] * 32))
        frontier.extend([sha256(b"\0" + bytes([number] * 32)).digest()])
    assert frontier.root() == tree.root()


def test_a_copy_goes_on_apart() -> None:
    tree = Tree()
    tree.add(b"a")
    copy, before = tree.copied(), tree.root()
    copy.add(b"b")
    assert tree.root() == before
    assert copy.size == 2
