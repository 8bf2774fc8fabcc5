"""The Workload API, asked by `spiffe`, which knows nothing of epad, and call by call."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import jwt
import pytest
from cryptography import x509
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from identity_world import TRUST, IdentityWorld, identity_world, in_python
from patience import until

from epad.identity.attestation import Attested
from epad.identity.child import IdentityError
from runners.identity.messages import Bundle, Issue, Rotate, Validate
from runners.identity.pem import split_der

AGENT = f"spiffe://{TRUST}/subsystem/agent"
CLIENT = """
import sys
from spiffe import WorkloadApiClient, X509Source, JwtSource
with WorkloadApiClient(f"unix://{sys.argv[1]}") as client:
    token = client.fetch_jwt_svid(audience={"memory"})
    print(token.spiffe_id, sorted(token.audience))
    print(client.validate_jwt_svid(token.token, "memory").spiffe_id)
    bundles = client.fetch_jwt_bundles()
    svid = client.fetch_x509_svid()
    print(svid.spiffe_id, len(client.fetch_x509_bundles().bundles), len(bundles.bundles))
with X509Source(socket_path=f"unix://{sys.argv[1]}") as source:
    print("source", source.get_x509_context().default_svid.spiffe_id)
with JwtSource(socket_path=f"unix://{sys.argv[1]}") as source:
    print("source", source.fetch_svid(audience={"a"}).spiffe_id)
"""


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[IdentityWorld]:
    async with identity_world(tmp_path) as world:
        yield world


async def test_an_official_client_gets_all_that_there_is(world: IdentityWorld) -> None:
    said = await in_python(CLIENT, str(world.path))
    assert said.splitlines() == [
        f"{AGENT} ['memory']",
        AGENT,
        f"{AGENT} 1 1",
        f"source {AGENT}",
        f"source {AGENT}",
    ]
    kinds = [(one.kind, one.name, one.spiffe_id) for one in world.registrar.issued_ones]
    assert set(kinds) == {("jwt", "agent", AGENT), ("x509", "agent", AGENT)}
    assert len(kinds) >= 4


METHODS = (
    ("FetchX509SVID", "X509SVID", True),
    ("FetchX509Bundles", "X509Bundles", True),
    ("FetchJWTSVID", "JWTSVID", False),
    ("FetchJWTBundles", "JWTBundles", True),
    ("ValidateJWTSVID", "ValidateJWTSVID", False),
)


async def test_without_the_header_nobody_gets_anything(world: IdentityWorld) -> None:
    """So that no server can be made to fetch an SVID by a request that it is tricked into (SSRF)."""
    headers: tuple[dict[str, str], ...] = (
        {},
        {"workload.spiffe.io": "false"},
        {"workload-spiffe-io": "true"},
    )
    for (method, kind, streams), header in itertools.product(METHODS, headers):
        with pytest.raises(GRPCError) as refused:
            await world.once(method, kind, streams=streams, header=header)
        assert refused.value.status is Status.INVALID_ARGUMENT
    assert world.registrar.issued_ones == []


async def test_who_is_nobody_is_told_why(world: IdentityWorld) -> None:
    world.registrar.attested = Attested(why="process 7 belongs to no subsystem of epad", pid=7, uid=1000)
    for method, kind, streams in METHODS:
        with pytest.raises(GRPCError, match="process 7 belongs to no subsystem") as refused:
            await world.once(method, kind, streams=streams)
        assert refused.value.status is Status.PERMISSION_DENIED
    assert [one.uid for one in world.registrar.refused_ones] == [1000] * len(METHODS)
    assert world.registrar.issued_ones == []


async def test_a_subsystem_chooses_its_audience_and_not_its_name(world: IdentityWorld) -> None:
    for request, status in (
        ({}, Status.INVALID_ARGUMENT),
        ({"audience": [""]}, Status.INVALID_ARGUMENT),
        ({"audience": ["a"] * 17}, Status.INVALID_ARGUMENT),
        ({"audience": ["a" * 1025]}, Status.INVALID_ARGUMENT),
        ({"audience": ["a"], "spiffe_id": f"spiffe://{TRUST}/subsystem/other"}, Status.PERMISSION_DENIED),
        ({"audience": ["a"], "spiffe_id": f"spiffe://{TRUST}/epad"}, Status.PERMISSION_DENIED),
    ):
        with pytest.raises(GRPCError) as refused:
            await world.once("FetchJWTSVID", "JWTSVID", request)
        assert refused.value.status is status
    assert world.registrar.issued_ones == []
    answer = await world.once("FetchJWTSVID", "JWTSVID", {"audience": ["a"], "spiffe_id": AGENT})
    assert [one.spiffe_id for one in answer.svids] == [AGENT]


async def test_a_stream_gets_a_new_svid_at_half_of_the_life_of_the_one_before(tmp_path: Path) -> None:
    async with (
        identity_world(tmp_path, x509_seconds=1.0) as world,
        world.call("FetchX509SVID", "X509SVID", streams=True) as receive,
    ):
        svids = [(await receive()).svids[0] for _ in range(3)]
        leaves = [split_der(svid.x509_svid)[0] for svid in svids]
        assert len({leaf.serial_number for leaf in leaves}) == 3
        assert len({svid.x509_svid_key for svid in svids}) == 3
        for former, later in itertools.pairwise(one.until for one in world.registrar.issued_ones):
            assert later >= former + 0.5  # not sooner than at half; later is what a slow machine makes of it
        assert [one.reference for one in world.registrar.issued_ones] == [
            f"{x.serial_number:x}" for x in leaves
        ]


async def test_a_rotation_reaches_every_stream_with_what_the_new_authority_signs(
    world: IdentityWorld,
) -> None:
    async with (
        world.call("FetchX509SVID", "X509SVID", streams=True) as svids,
        world.call("FetchX509Bundles", "X509Bundles", streams=True) as bundles,
        world.call("FetchJWTBundles", "JWTBundles", streams=True) as keys,
    ):
        before = (await svids()).svids[0]
        first, known = await bundles(), await keys()
        token = (await world.once("FetchJWTSVID", "JWTSVID", {"audience": ["a"]})).svids[0].svid
        await world.child.ask(Rotate)
        after = (await svids()).svids[0]
        second, more = await bundles(), await keys()
    trust_id = f"spiffe://{TRUST}"
    (old,), both = split_der(first.bundles[trust_id]), split_der(second.bundles[trust_id])
    assert both[0] == old
    assert len(both) == 2
    assert split_der(after.bundle) == both
    split_der(before.x509_svid)[0].verify_directly_issued_by(old)
    split_der(after.x509_svid)[0].verify_directly_issued_by(both[1])
    kids = [[key["kid"] for key in json.loads(one.bundles[trust_id])["keys"]] for one in (known, more)]
    assert kids[1][:1] == kids[0]
    checked = await world.once("ValidateJWTSVID", "ValidateJWTSVID", {"audience": "a", "svid": token})
    assert (checked.spiffe_id, list(checked.claims["aud"])) == (AGENT, ["a"])
    assert world.registrar.rotations == ["none could sign", "a person has ordered it"]


async def test_a_hold_ends_the_streams_of_that_subsystem_alone(world: IdentityWorld) -> None:
    async with world.call("FetchX509SVID", "X509SVID", streams=True) as receive:
        await receive()
        world.child.cut("other")
        world.child.cut("agent")  # it is not held after all, so its stream goes on
        await world.once("FetchJWTSVID", "JWTSVID", {"audience": ["a"]})
        world.registrar.attested = Attested(why="agent is held: a person")
        world.child.cut("agent")
        with pytest.raises(GRPCError, match="agent is held") as refused:
            await receive()
    assert refused.value.status is Status.PERMISSION_DENIED
    assert [one.kind for one in world.registrar.issued_ones] == ["x509", "jwt"]


async def test_a_token_that_is_not_right_is_not_validated(world: IdentityWorld) -> None:
    token = (await world.once("FetchJWTSVID", "JWTSVID", {"audience": ["a"]})).svids[0].svid
    for audience, spoilt in (("other", token), ("a", token[:-4] + "AAAA"), ("a", ""), ("", token)):
        with pytest.raises(GRPCError) as refused:
            await world.once("ValidateJWTSVID", "ValidateJWTSVID", {"audience": audience, "svid": spoilt})
        assert refused.value.status is Status.INVALID_ARGUMENT


async def test_the_keys_outlive_the_child(world: IdentityWorld) -> None:
    """Who has a bundle trusts the SVIDs of the next child too; and nobody else reads the file."""
    before = (await world.child.ask(Bundle)).texts["document"]
    (pid,) = world.child.pids
    process = world.child._process
    assert process is not None
    process.kill()
    await until(lambda: world.child.pids and pid not in world.child.pids, "the next child")
    await world.ready()
    assert (await world.child.ask(Bundle)).texts["document"] == before
    assert world.keys.stat().st_mode & 0o777 == 0o600
    assert (await world.once("FetchJWTSVID", "JWTSVID", {"audience": ["a"]})).svids[0].spiffe_id == AGENT


async def test_keys_of_a_torn_file_are_made_anew_and_that_is_told(tmp_path: Path) -> None:
    (tmp_path / "identity.json").write_text('{"trust_domain": "epad.te')
    async with identity_world(tmp_path) as world:
        assert (await world.once("FetchJWTSVID", "JWTSVID", {"audience": ["a"]})).svids[0].spiffe_id == AGENT
        assert world.registrar.rotations == ["none could sign"]


async def test_without_a_disk_for_its_keys_nothing_is_signed(tmp_path: Path) -> None:
    async with identity_world(tmp_path, keys="nowhere/identity.json") as world:
        await until(lambda: world.child.state != "ready", "the fault")
        assert "new authorities cannot be kept" in world.child.state
        with pytest.raises(GRPCError) as refused:
            await world.once("FetchJWTSVID", "JWTSVID", {"audience": ["a"]})
        assert refused.value.status is Status.UNAVAILABLE
        assert world.registrar.issued_ones == []


async def test_the_daemon_has_svids_of_its_own(world: IdentityWorld) -> None:
    answer = await world.child.ask(lambda number: Issue(number, "jwt", "vllm"))
    claims = jwt.decode(answer.texts["token"], options={"verify_signature": False})
    assert (claims["sub"], claims["aud"]) == (f"spiffe://{TRUST}/epad", ["vllm"])
    assert 0 < answer.until - time.time() <= 300
    answer = await world.child.ask(lambda number: Issue(number, "x509"))
    leaf = x509.load_pem_x509_certificate(answer.texts["certificate"].encode())
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(answer.texts["bundle"].encode()))
    assert world.registrar.issued_ones == []  # these are no subsystem's


async def test_the_daemon_asks_whose_a_token_is(world: IdentityWorld) -> None:
    token = (await world.once("FetchJWTSVID", "JWTSVID", {"audience": ["a"]})).svids[0].svid
    answer = await world.child.ask(lambda number: Validate(number, token, "a"))
    assert answer.texts == {"spiffe_id": AGENT}
    with pytest.raises(IdentityError, match="Audience"):
        await world.child.ask(lambda number: Validate(number, token, "b"))


async def test_another_agent_is_asked_in_its_place(tmp_path: Path) -> None:
    """As a SPIRE agent would be: another epad's Workload API, to which the daemon is a subsystem."""
    (tmp_path / "own").mkdir()
    async with (
        identity_world(tmp_path) as agent,
        identity_world(tmp_path / "own", agent=agent.path) as world,
    ):
        assert not world.path.exists()
        answer = await world.child.ask(lambda number: Issue(number, "jwt", "vllm"))
        token = answer.texts["token"]
        assert answer.texts["spiffe_id"] == AGENT
        answer = await world.child.ask(lambda number: Issue(number, "x509"))
        leaf = x509.load_pem_x509_certificate(answer.texts["certificate"].encode())
        leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(answer.texts["bundle"].encode()))
        assert "BEGIN PRIVATE KEY" in answer.texts["key"]
        assert (await world.child.ask(lambda n: Validate(n, token, "vllm"))).texts["spiffe_id"] == AGENT
        with pytest.raises(IdentityError, match="the agent refuses ValidateJWTSVID: Audience"):
            await world.child.ask(lambda number: Validate(number, token, "other"))
        document = json.loads((await world.child.ask(Bundle)).texts["document"])
        theirs = json.loads((await agent.child.ask(Bundle)).texts["document"])
        assert document["keys"] == theirs["keys"]
        with pytest.raises(IdentityError, match="rotate them there"):
            await world.child.ask(Rotate)
        agent.registrar.attested = Attested(why="unknown")
        with pytest.raises(IdentityError, match="the agent refuses FetchJWTSVID: no identity issued"):
            await world.child.ask(lambda number: Issue(number, "jwt", "vllm"))


async def test_an_agent_that_is_not_there_is_named(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere.sock"
    async with identity_world(tmp_path, agent=nowhere) as world:
        with pytest.raises(IdentityError, match=r"no agent answers at .*nowhere\.sock"):
            await world.child.ask(Bundle)
