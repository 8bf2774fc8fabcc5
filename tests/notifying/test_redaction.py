"""No secret leaves the machine, and the sentence is still one."""

from __future__ import annotations

import pytest

from epad.notifying.redaction import MAX_CHARACTERS, redact

SECRETS = [
    ("Authorization: Bearer abc.def-123", "abc.def-123"),
    ("api_key=s3cr3t-value, and more", "s3cr3t-value"),
    ('{"token": "s3cr3t"}', "s3cr3t"),
    ("OPENAI_API_KEY=sk-proj-0123456789abcdefgh failed", "sk-proj-0123456789abcdefgh"),
    ("epad-1a2b3c4d5e6f7g8h9i0j is unknown", "1a2b3c4d5e6f7g8h9i0j"),
    ("hf_abcdefghijklmnop123 refused", "abcdefghijklmnop123"),
    ("ghp_abcdefghijklmnop1234567890 refused", "abcdefghijklmnop1234567890"),
    ("password: hunter2-hunter2", "hunter2-hunter2"),
    ("https://user:pa55@example.org/v1/chat?key=abc#x is down", "pa55"),
    ("https://example.org/v1/chat?key=abc123 is down", "abc123"),
    ("https://ntfy.sh/my-secret-topic is down", "my-secret-topic"),
    ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-def_ghi is expired", "eyJzdWIiOiIxIn0"),
    (
        "the prompt 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 again",
        "9f86d081884c7d659a2f",
    ),
    ('it said "Dear doctor, I have had this pain in my chest since Monday and" twice', "doctor"),
]


@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_no_secret_is_left(text: str, secret: str) -> None:
    """Keys, tokens, addresses beyond their host, long quotations."""
    assert secret not in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "chat is frozen since 14:02: the same prompt 12 times; lets go by itself at 14:07:30: epactl release chat",
        "upstream llama does not answer; goes on by itself once it answers; look at the server at http://127.0.0.1:8080",
        "datastore memory: rot: bytes 0 to 65535 have changed, and nobody has written to the file",
        "wargame is stopped: it holds 12 GiB of 'card1', and it's more than it said; epactl release wargame",
        "the last verified checkpoint is 20260101T000000Z-000007",
    ],
)
def test_a_sentence_without_secrets_stays_as_it_is(text: str) -> None:
    """Who, why, until when, and the command."""
    assert redact(text) == text


def test_known_secrets_go_whatever_they_look_like() -> None:
    """The address of the topic itself."""
    assert "hush" not in redact("posting to hush failed", ["hush", ""])


def test_it_is_one_line_and_not_a_long_one() -> None:
    """Control characters would act on whoever shows it."""
    assert redact("a\n\x1b[31mb\x00\tc") == "a [31mb c"
    assert len(redact("word " * 1000)) <= MAX_CHARACTERS
