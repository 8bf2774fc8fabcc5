"""A security key in software, asked by the real client library."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest
from machine_lacks import is_lacking

from runners.secrets import __main__ as child
from runners.secrets import age, security_key
from runners.secrets.failed import FailedError

if TYPE_CHECKING:
    from software_key import SoftwareKey
else:
    SoftwareKey = None if is_lacking("module fido2") else __import__("software_key").SoftwareKey

pytestmark = [
    pytest.mark.skipif(
        is_lacking("module fido2"), reason="fido2 is not installed: pip install 'epad[vault]'"
    ),
    pytest.mark.skipif(
        is_lacking("module pyrage"), reason="pyrage is not installed: pip install 'epad[vault]'"
    ),
]


def test_a_key_gives_the_same_answer_again_and_another_key_none() -> None:
    """Each answer takes a touch; another salt has another answer."""
    key = SoftwareKey()
    made = security_key.make(key, "")
    assert key.touches == 2
    assert security_key.answer(key, made.credential, made.salt, "") == made.secret
    assert security_key.answer(key, made.credential, bytes(32), "") != made.secret
    assert key.touches == 4
    with pytest.raises(FailedError, match="not the security key"):
        security_key.answer(SoftwareKey(), made.credential, made.salt, "")


def test_a_key_without_the_extension_and_one_that_nobody_touches() -> None:
    """Each is told for what it is."""
    with pytest.raises(FailedError, match="no hmac-secret"):
        security_key.make(SoftwareKey(has_hmac_secret=False), "")
    with pytest.raises(FailedError, match="did not answer"):
        security_key.make(SoftwareKey(answers=False), "")


def test_the_vaults_key_is_unlocked_by_the_security_key_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the requests of the daemon."""
    key, other = SoftwareKey(), SoftwareKey()
    monkeypatch.setattr(security_key, "only_device", lambda: key)
    made = child.VERBS["make-security-key"]({"secret": ""})
    request = {name: made[name] for name in ("sealed", "credential", "salt")} | {"secret": ""}
    assert child.VERBS["unlock-security-key"](request)["identity"] == made["identity"]
    assert made["identity"] not in json.dumps({name: made[name] for name in ("sealed", "credential", "salt")})
    sealed = age.seal(made["recipient"], b"value")
    assert age.open_sealed(made["identity"], sealed) == b"value"
    monkeypatch.setattr(security_key, "only_device", lambda: other)
    with pytest.raises(FailedError):
        child.VERBS["unlock-security-key"](request)
    with pytest.raises(FailedError, match="does not unlock"):
        age.unlock(base64.b64decode(made["sealed"]), "a guessed passphrase")


def test_no_key_is_plugged_in() -> None:
    with pytest.raises(FailedError, match="security keys"):
        security_key.only_device()
