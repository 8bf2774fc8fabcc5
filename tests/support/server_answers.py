"""What model servers answer when they are looked at, as their sources and public issues show it."""

from __future__ import annotations

import json

LOOPBACK = "http://127.0.0.1:8080/v1"
DIGEST = "a80c4f17acd55265feec403c7aef86be0c25983ab279d83f3bcd3abbcb5b8b72"

# As get_res_model_info of llama.cpp's server-context.cpp writes it.
LLAMA_CPP = (
    b'{"models":[{"name":"smol","model":"smol","modified_at":"","size":"","digest":"","details":{"format":"gguf"}}],'
    b'"object":"list","data":[{"id":"smol","aliases":["smol"],"tags":[],"object":"model","created":1764350000,'
    b'"owned_by":"llamacpp","meta":{"vocab_type":2,"n_vocab":49152,"n_ctx":4096,"n_ctx_train":8192,"n_embd":576,'
    b'"n_params":134515008,"size":144811776,"ftype":"Q8_0"}}]}'
)
VLLM = (
    b'{"object":"list","data":[{"id":"base","object":"model","created":1764350000,"owned_by":"vllm","root":"org/base",'
    b'"parent":null,"max_model_len":2048,"permission":[{"id":"modelperm-1","object":"model_permission"}]},'
    b'{"id":"adapter","object":"model","created":1764350000,"owned_by":"vllm","root":"/lora","parent":"base",'
    b'"max_model_len":null,"permission":[]}]}'
)
SGLANG = (
    b'{"object":"list","data":[{"id":"org/m","object":"model","created":1764350000,"owned_by":"sglang","root":"org/m",'
    b'"parent":null,"max_model_len":131072}]}'
)
OLLAMA = (
    b'{"object":"list","data":[{"id":"llama3.2:latest","object":"model","created":1,"owned_by":"library"}]}'
)
OLLAMA_TAGS = json.dumps({
    "models": [{
        "name": "llama3.2:latest", "model": "llama3.2:latest", "modified_at": "2025-05-04T17:37:44.706015396-07:00",
        "size": 2019393189, "digest": DIGEST,
        "details": {"parent_model": "", "format": "gguf", "family": "llama", "parameter_size": "3.2B"},
    }]
}).encode()  # fmt: skip
# eyalrot/ollama_openai#34
LM_STUDIO = (
    b'{"data":[{"id":"qwen3.5-35b-a3b","object":"model","owned_by":"organization_owner"},'
    b'{"id":"qwen3.5-122b-a10b","object":"model","owned_by":"organization_owner"}],"object":"list"}'
)
# zed-industries/zed#25606
LM_STUDIO_LOADED = (
    b'{"data":[{"id":"gemma-3-4b-it","object":"model","type":"vlm","publisher":"lmstudio-community","arch":"gemma3",'
    b'"state":"loaded","max_context_length":131072,"loaded_context_length":4096},'
    b'{"id":"text-embedding-nomic","object":"model","state":"not-loaded","max_context_length":2048}]}'
)
TGI = b'{"object":"list","data":[{"id":"org/m","object":"model","created":0,"owned_by":"org/m"}]}'
TGI_INFO = (
    b'{"model_id":"org/m","model_sha":"x","max_concurrent_requests":128,"max_best_of":2,"max_input_tokens":1024,'
    b'"max_total_tokens":2048,"router":"text-generation-router","version":"3.3.6","sha":null,"docker_label":null}'
)
TRANSFORMERS = (
    b'{"object":"list","data":[{"owned_by":"HuggingFaceTB","id":"HuggingFaceTB/SmolLM2-135M-Instruct","object":"model",'
    b'"created":1764350000}]}'
)
UVICORN = {"server": "uvicorn", "x-request-id": "4f"}
# LiteLLM's proxy says so of every model, whoever makes the answers.
LITELLM = (
    b'{"data":[{"id":"claude","object":"model","created":1677610602,"owned_by":"openai"},'
    b'{"id":"gpt","object":"model","created":1677610602,"owned_by":"openai"}],"object":"list"}'
)
