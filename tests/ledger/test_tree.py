"""The tree is RFC 6962's, and a proof holds for its leaf and for nothing else."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epad.ledger.tree import EMPTY_ROOT, Frontier, inclusion_path, root_from_path

# The leaves and roots of RFC 6962's own reference implementation (certificate-transparency, merkle_tree_test.cc).
INPUTS = [
    b"",
    b"\0",
    b"\x10",
    b"\x20\x21",
    b"\x30\x31",
    b"\x40\x41\x42\x43",
    bytes(range(0x50, 0x58)),
    bytes(range(0x60, 0x70)),
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def leaf(data: bytes) -> bytes:
    return sha256(b"\0" + data).digest()


def root_of(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1, word for word."""
    if len(leaves) == 1:
        return leaves[0]
    middle = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\1" + root_of(leaves[:middle]) + root_of(leaves[middle:])).digest()


def test_roots_are_those_of_the_reference() -> None:
    """Leaf by leaf, with the published vectors."""
    frontier = Frontier()
    assert frontier.root() == EMPTY_ROOT
    for data, root in zip(INPUTS, ROOTS, strict=True):
        frontier.append(leaf(data))
        assert frontier.root().hex() == root


@given(size=st.integers(1, 70), data=st.data())
def test_a_proof_leads_its_leaf_to_the_root_and_no_other(size: int, data: st.DataObject) -> None:
    """Any leaf of any tree; another leaf or a changed hash leads elsewhere."""
    leaves = [leaf(bytes([number])) for number in range(size)]
    index = data.draw(st.integers(0, size - 1))
    frontier = Frontier()
    frontier.extend(leaves)
    path = inclusion_path(index, size, leaves)

    assert frontier.root() == root_of(leaves)
    assert root_from_path(index, size, leaves[index], path) == root_of(leaves)
    assert root_from_path(index, size, leaf(b"forged"), path) != root_of(leaves)
    with pytest.raises(ValueError, match="needs"):
        root_from_path(index, size, leaves[index], [*path, leaf(b"more")])


@given(sizes=st.tuples(st.integers(0, 40), st.integers(0, 40)))
def test_a_frontier_goes_on_from_its_peaks(sizes: tuple[int, int]) -> None:
    """What was kept of a tree is enough to append to it."""
    leaves = [leaf(bytes([number])) for number in range(sum(sizes))]
    one = Frontier()
    one.extend(leaves[: sizes[0]])
    other = Frontier(one.size, one.peaks)
    other.extend(leaves[sizes[0] :])
    assert other.size == len(leaves)
    assert not leaves or other.root() == root_of(leaves)


def test_peaks_that_are_no_tree_are_refused() -> None:
    """A size has as many full subtrees as it has bits."""
    with pytest.raises(ValueError, match="full subtrees"):
        Frontier(3, [bytes(32)])
