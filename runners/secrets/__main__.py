"""`python -m runners.secrets`: do one request of the vault and end. It is read from stdin, and answered on stdout.

Request and answer are JSON; bytes in them are base64. What fails is an answer too: `error`, and `fix`.
"""

from __future__ import annotations

import base64
import ctypes
import json
import resource
import sys
from collections.abc import Callable, Mapping
from typing import Final

from runners.secrets import age, security_key
from runners.secrets.failed import FailedError

Request = Mapping[str, str]
_NOT_DUMPABLE: Final = 4
_MOST_BYTES: Final = 1 << 20


def main() -> int:
    """Do the request; the status tells if it was one."""
    ctypes.CDLL(None).prctl(_NOT_DUMPABLE, 0, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        request: Request = json.loads(sys.stdin.buffer.read(_MOST_BYTES))
        work = VERBS[request["verb"]]
    except (ValueError, KeyError, TypeError):
        print("python -m runners.secrets: epad starts it, and gives it one request", file=sys.stderr)
        return 2
    try:
        answer = work(request)
    except ImportError as error:
        answer = {"error": f"a package is not installed: {error.name}", "fix": "pip install 'epad[vault]'"}
    except FailedError as error:
        answer = {"error": error.what, "fix": error.fix}
    json.dump(answer, sys.stdout)
    return 0


def _make_by_passphrase(request: Request) -> dict[str, str]:
    return age.make(request["secret"])


def _unlock_by_passphrase(request: Request) -> dict[str, str]:
    return age.unlock(_bytes(request["sealed"]), request["secret"])


def _make_by_security_key(request: Request) -> dict[str, str]:
    made = security_key.make(security_key.only_device(), request["secret"])
    key = age.make(base64.b64encode(made.secret).decode())
    return {**key, "credential": _text(made.credential), "salt": _text(made.salt)}


def _unlock_by_security_key(request: Request) -> dict[str, str]:
    credential, salt = _bytes(request["credential"]), _bytes(request["salt"])
    secret = security_key.answer(security_key.only_device(), credential, salt, request["secret"])
    return age.unlock(_bytes(request["sealed"]), base64.b64encode(secret).decode())


def _seal(request: Request) -> dict[str, str]:
    return {"sealed": _text(age.seal(request["recipient"], _bytes(request["payload"])))}


def _open(request: Request) -> dict[str, str]:
    return {"payload": _text(age.open_sealed(request["identity"], _bytes(request["sealed"])))}


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


VERBS: Final[Mapping[str, Callable[[Request], dict[str, str]]]] = {
    "make-passphrase": _make_by_passphrase,
    "unlock-passphrase": _unlock_by_passphrase,
    "make-security-key": _make_by_security_key,
    "unlock-security-key": _unlock_by_security_key,
    "seal": _seal,
    "open": _open,
}

if __name__ == "__main__":
    sys.exit(main())
