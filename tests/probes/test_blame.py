"""Whose fault it is: every case in a table, and every refusal that there is has its line."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes import blame
from probes.blame import PATIENCE_SECONDS, Ending, Failure, Fault, Said, excuses_retry, fault_of, said_in

GATEWAY = Path(__file__).parents[2] / "epad" / "gateway"

C, U, K, H, L, E, N = (
    Fault.CLIENT, Fault.UPSTREAM, Fault.KEY, Fault.HOST, Fault.LIMIT, Fault.EPAD, Fault.NOBODY,
)  # fmt: skip


@pytest.mark.parametrize(("end", "fault"), [
    (Ending(status=200), N),
    (Ending(status=302), N),
    # A server that cannot, or breaks off.
    (Ending(failed=True, failure=Failure.NOT_CONNECTED), U),
    (Ending(failed=True, failure=Failure.NOT_ASKED), U),
    (Ending(failed=True, failure=Failure.BROKE_OFF, status=200), U),
    (Ending(failed=True, failure=Failure.SILENT), U),
    (Ending(failed=True, failure=Failure.UNREADABLE, status=200), U),
    (Ending(failure=Failure.OVERRAN, status=200), U),
    (Ending(failed=True, failure=Failure.NO_ANSWER, status=200), U),
    (Ending(failed=True, status=200), U),
    (Ending(failed=True, status=200, said=Said.OUT_OF_MEMORY), U),
    (Ending(failed=True, status=200, said=Said.TOO_LONG), C),
    *[(Ending(failed=True, status=status), U) for status in (500, 501, 502, 503, 504, 507, 520, 529)],
    (Ending(failed=True, status=500, said=Said.OUT_OF_MEMORY), U),
    (Ending(failed=True, status=500, said=Said.TOO_LONG), C),
    (Ending(failed=True, status=503, said=Said.LOADING), U),
    *[(Ending(failed=True, status=status), U) for status in (402, 408, 423, 424, 425, 429)],
    # What a client asks for, and should not.
    *[(Ending(failed=True, status=status), C) for status in (400, 405, 409, 410, 411, 413, 415, 418, 422, 451)],
    (Ending(failed=True, status=404, said=Said.NO_MODEL), C),
    (Ending(failed=True, status=404), C),
    (Ending(failed=True, status=404, said=Said.NO_ROUTE), U),
    # Keys: epad's own, or the client's own where that was passed on.
    *[(Ending(failed=True, status=status), K) for status in (401, 403, 407)],
    *[(Ending(failed=True, status=status, own_key=False), C) for status in (401, 403, 407)],
    (Ending(failed=True, status=400, said=Said.AUTH), K),
    (Ending(failed=True, status=400, said=Said.AUTH, own_key=False), C),
    (Ending(failed=True, status=403, said=Said.REFUSED_CONTENT), C),
    (Ending(failed=True, status=403, said=Said.NO_MODEL), C),
    (Ending(failed=True, status=403, said=Said.LIMITED), U),
    # This machine, and epad itself.
    (Ending(failed=True, failure=Failure.HOST_SHORT), H),
    (Ending(failure=Failure.SEVERED, status=200), E),
    (Ending(failure=Failure.INTERNAL), E),
    # Who leaves, or does not read.
    (Ending(failure=Failure.CLIENT_SLOW, status=200), C),
    (Ending(failure=Failure.CLIENT_GONE, status=200), C),
    (Ending(failure=Failure.CLIENT_GONE, waited_seconds=PATIENCE_SECONDS / 2), C),
    (Ending(failure=Failure.CLIENT_GONE, waited_seconds=PATIENCE_SECONDS), U),
    (Ending(failure=Failure.CLIENT_GONE, waited_seconds=1, well=False), U),
])  # fmt: skip
def test_the_end_of_a_turn_is_somebodys_fault(end: Ending, fault: Fault) -> None:
    assert fault_of(end) is fault


@given(st.integers(100, 599), st.sampled_from(Said), st.sampled_from(Failure), st.booleans())
def test_every_failed_turn_is_somebodys_fault(status: int, said: Said, failure: Failure, well: bool) -> None:
    assert fault_of(Ending(True, status, said, failure, well=well)) is not Fault.NOBODY


@given(st.sampled_from(Said), st.integers(500, 599))
def test_a_server_that_fails_is_never_held_against_the_client_but_for_its_length(
    said: Said, status: int
) -> None:
    assert (fault_of(Ending(True, status, said)) is Fault.CLIENT) is (said is Said.TOO_LONG)


def codes() -> set[str]:
    """Return every code in the refusals that the gateway makes: the third value of each, or of both its branches."""
    made: set[str] = set()
    for file in sorted(GATEWAY.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Refusal":
                made |= {
                    each.value
                    for each in ast.walk(node.args[2])
                    if isinstance(each, ast.Constant) and isinstance(each.value, str) and each.value
                }
    return made


def test_every_refusal_has_its_line() -> None:
    assert len(codes()) > 15
    assert codes() <= set(blame._REFUSALS)


@pytest.mark.parametrize(("code", "fault"), [
    ("budget_exceeded", L), ("too_many_in_flight", L), ("request_exceeds_budget", L), ("bodies_too_large", L),
    ("subsystem_quarantined", E), ("subsystem_throttled", E), ("gateway_closed", E), ("gateway_stopping", E),
    ("ledger_unavailable", H), ("upstream_unavailable", U), ("upstream_rejects_key", K), ("upstream_limited", U),
    ("invalid_request", C), ("model_not_found", C), ("invalid_api_key", C),
    ("a code of tomorrow's", L),
])  # fmt: skip
def test_a_refusal_is_somebodys_doing(code: str, fault: Fault) -> None:
    assert blame.fault_of_refusal(code) is fault


@pytest.mark.parametrize(("fault", "waited", "told", "excused"), [
    (U, 0, 0, True), (K, 0, 5, True), (H, 0, 5, True), (N, 60, 0, False), (C, 60, 0, False),
    (L, 5, 5, True), (L, 4.9, 5, True), (L, 4, 5, False), (L, 0, 0, True), (E, 9, 10, False), (E, 10, 10, True),
])  # fmt: skip
def test_a_retry_is_excused_by_what_came_before(
    fault: Fault, waited: float, told: float, excused: bool
) -> None:
    assert excuses_retry(fault, waited_seconds=waited, told_seconds=told) is excused


@pytest.mark.parametrize(("status", "text", "said"), [
    (503, '{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}', Said.LOADING),
    (503, "Model meta-llama/Llama-3 is currently loading", Said.LOADING),
    (500, '{"error":"model requires more system memory (5.6 GiB) than is available"}', Said.OUT_OF_MEMORY),
    (500, "CUDA out of memory. Tried to allocate 2.00 GiB", Said.OUT_OF_MEMORY),
    (500, '{"error":{"message":"the request exceeds the available context size"}}', Said.TOO_LONG),
    (404, '{"error":{"message":"The model `m` does not exist.","type":"NotFoundError"}}', Said.NO_MODEL),
    (404, '{"error":"model \\"m\\" not found, try pulling it first"}', Said.NO_MODEL),
    (404, '{"error":{"code":"model_not_found","message":"no"}}', Said.NO_MODEL),
    (404, '{"detail":"Not Found"}', Said.NO_ROUTE),
    (404, '{"error":{"code":404,"message":"File Not Found","type":"not_found_error"}}', Said.NO_ROUTE),
    (404, "404 page not found", Said.NO_ROUTE),
    (404, '{"error":{"message":"no","type":"x"}}', Said.NOTHING),
    (429, '{"error":{"message":"Rate limit reached for requests"}}', Said.LIMITED),
    (403, '{"error":{"message":"You exceeded your current quota"}}', Said.LIMITED),
    (403, '{"error":{"message":"requires moderation and your input was flagged"}}', Said.REFUSED_CONTENT),
    (401, '{"error":{"message":"Incorrect API key provided"}}', Said.AUTH),
    (500, "", Said.NOTHING),
])  # fmt: skip
def test_what_servers_say(status: int, text: str, said: Said) -> None:
    assert said_in(status, text) is said


@pytest.mark.parametrize(
    "message", ["API key not valid. Please pass a valid API key.", "Incorrect API key provided: x"]
)
def test_a_wrong_key_that_is_answered_with_400_is_known_by_how_the_message_begins(message: str) -> None:
    assert said_in(400, f'{{"error":{{"message":"{message}"}}}}', message) is Said.AUTH


@given(st.text(max_size=80), st.sampled_from([400, 413, 422]))
def test_what_a_client_wrote_and_a_server_repeats_blames_nobody_else(text: str, status: int) -> None:
    echoed = f"messages.0.content: {text} rate limit, out of memory, model loading, invalid api key"
    assert fault_of(Ending(True, status, said_in(status, echoed, echoed))) is Fault.CLIENT
