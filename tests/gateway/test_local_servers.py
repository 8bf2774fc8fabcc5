"""The search for model servers on this machine, at servers that answer as recorded ones did."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Mapping

import pytest
from listed_servers import AN_OLLAMA, listed_server
from server_answers import LITELLM, LLAMA_CPP, LM_STUDIO, SGLANG, TGI, TGI_INFO, TRANSFORMERS, UVICORN, VLLM

from epad.configuration.first_file import FoundServer
from epad.gateway.local_servers import USUAL, look, search, usual_addresses

HOST = "127.0.0.1"


@pytest.mark.parametrize(
    ("kind", "answers", "head", "models"),
    [
        ("ollama", AN_OLLAMA, {}, ("llama3.2:latest",)),
        ("vllm", {"/v1/models": VLLM}, {"server": "uvicorn"}, ("base", "adapter")),
        ("llama.cpp", {"/v1/models": LLAMA_CPP}, {"Server": "llama.cpp"}, ("smol",)),
        ("lmstudio", {"/v1/models": LM_STUDIO}, {}, ("qwen3.5-35b-a3b", "qwen3.5-122b-a10b")),
        ("sglang", {"/v1/models": SGLANG}, {"server": "uvicorn"}, ("org/m",)),
        ("tgi", {"/v1/models": TGI, "/info": TGI_INFO}, {}, ("org/m",)),
        ("transformers", {"/v1/models": TRANSFORMERS}, UVICORN, ("HuggingFaceTB/SmolLM2-135M-Instruct",)),
        ("generic", {"/v1/models": LITELLM}, {"x-litellm-version": "1"}, ("claude", "gpt")),
        ("", {"/v1/models": LITELLM}, {}, ("claude", "gpt")),
    ],
)
def test_each_kind_is_told(
    kind: str, answers: Mapping[str, bytes], head: Mapping[str, str], models: tuple[str, ...]
) -> None:
    """By `server_detection`; a list of models of an unknown kind is a model server all the same."""
    with listed_server(answers, head) as one:
        assert look(HOST, one.port) == FoundServer(one.url, kind, models)
        assert not [asked for asked in one.asked if not asked.startswith("GET ")]


def test_an_ollama_without_a_model_is_found() -> None:
    """Its lists are empty, as ListMiddleware and ListHandler write them, and tell nothing; its home page does."""
    empty = {"/v1/models": b'{"object":"list","data":null}', "/api/tags": b'{"models":[]}'}
    with listed_server({**empty, "/": b"Ollama is running"}) as one:
        assert look(HOST, one.port) == FoundServer(one.url, "ollama")
    with listed_server({**empty, "/": b"<html>Something else is running</html>"}) as other:
        assert look(HOST, other.port) is None


def test_a_server_that_loads_still_is_found() -> None:
    """llama-server answers 503 to everything until its model is there, and names itself in each head."""
    loading = {"/v1/models": b'{"error":{"message":"Loading model","type":"unavailable_error","code":503}}'}
    with listed_server(loading, {"Server": "llama.cpp"}, status=503) as one:
        assert look(HOST, one.port) == FoundServer(one.url, "llama.cpp")


def test_a_refusal_without_a_key_is_told_from_a_web_page() -> None:
    """As vLLM's AuthenticationMiddleware answers, and as Jenkins does, which listens on 8080."""
    with listed_server({"/v1/models": b'{"error":"Unauthorized"}'}, status=401) as one:
        assert look(HOST, one.port) == FoundServer(one.url, wants_key=True)
    with listed_server({"/v1/models": b"<html>Authentication required</html>"}, status=403) as other:
        assert look(HOST, other.port) is None


@pytest.mark.parametrize(
    "answers",
    [
        {},
        {"/v1/models": b"<html>a page for every path</html>", "/": b"<html></html>"},
        {"/v1/models": b"[" * 100_000},
        {"/v1/models": b'{"data":[]}'},
    ],
)
def test_other_programs_are_no_model_servers(answers: Mapping[str, bytes]) -> None:
    with listed_server(answers) as one:
        assert look(HOST, one.port) is None


def test_names_that_nobody_could_read_are_left_out() -> None:
    """A file is written from them, and a terminal shows them."""
    with listed_server(
        {"/v1/models": b'{"data":[{"id":"good"},{"id":"a\\u001b[2Jb"},{"id":"good"}]}'}
    ) as one:
        found = look(HOST, one.port)
    assert found is not None
    assert found.models == ("good",)


def test_what_never_ends_or_never_answers_is_given_up() -> None:
    """A body a byte at a time has a deadline as a whole; so has a listener that says nothing."""
    with socket.create_server((HOST, 0)) as silent, socket.create_server((HOST, 0)) as slow:
        threading.Thread(target=_trickle, args=(slow,), daemon=True).start()
        addresses = [one.getsockname() for one in (silent, slow)]
        assert search(addresses, seconds=0.3) == []


def _trickle(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    try:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b" ")
            time.sleep(0.05)
    except OSError:
        connection.close()


def test_those_found_are_in_the_order_of_the_addresses() -> None:
    with listed_server({"/v1/models": VLLM}) as one, listed_server(AN_OLLAMA) as other:
        with socket.create_server((HOST, 0)) as gone:
            nobody = gone.getsockname()
        found = search([(HOST, other.port), nobody, (HOST, one.port)])
    assert [server.kind for server in found] == ["ollama", "vllm"]
    assert search([]) == []


def test_the_usual_ports() -> None:
    assert dict(USUAL) == {
        "Ollama": 11434,
        "vLLM": 8000,
        "llama.cpp": 8080,
        "LM Studio": 1234,
        "SGLang": 30000,
    }
    assert usual_addresses() == [(HOST, port) for _, port in USUAL]


def test_no_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with listed_server(AN_OLLAMA) as one:
        assert look(HOST, one.port) is not None
