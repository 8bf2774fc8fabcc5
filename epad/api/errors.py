"""Requests that are answered with an error, and the one form that all errors have."""

from __future__ import annotations

from aiohttp import web

from epad import EpadError
from epad.formatting.nearest import fix
from epad.operations.protocol import ConflictError, UnknownNameError

MAX_BODY_BYTES = 64 * 1024
MAX_DOCUMENT_BYTES = (1 << 20) + MAX_BODY_BYTES
"""What the body of an order may have that brings a piece of a document."""


class ApiError(EpadError):
    """A request cannot be answered: with the HTTP status and a stable code."""

    def __init__(self, status: int, code: str, what: str, fix: str) -> None:
        super().__init__(what, fix)
        self.status = status
        self.code = code

    def response(self) -> web.Response:
        error = {"code": self.code, "message": self.what, "fix": self.fix}
        return web.json_response({"error": error}, status=self.status)


def translate(error: Exception, request: web.Request) -> ApiError:
    """Any exception of a handler, as the error it is answered with."""
    match error:
        case ApiError():
            return error
        case UnknownNameError():
            none = "" if error.known else error.declared_by
            return ApiError(404, f"unknown_{error.kind}", str(error), fix(error.name, error.known) + none)
        case ConflictError():
            return ApiError(409, "conflict", str(error), "see `epactl status` and `epactl explain`")
        case web.HTTPException():
            return _from_http(error, request)
        case _:
            message = f"{request.method} {request.path} failed: {type(error).__name__}: {error}"
            return ApiError(500, "internal", message, "look into the daemon's log")


def _from_http(error: web.HTTPException, request: web.Request) -> ApiError:
    codes = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}
    fixes = {
        404: "GET /v1/openapi.json lists what there is",
        405: f"allowed here: {error.headers.get('Allow', '')}",
        413: f"send at most {MAX_BODY_BYTES} bytes",
    }
    code = codes.get(error.status, "bad_request")
    fix = fixes.get(error.status, "GET /v1/openapi.json says what is expected")
    return ApiError(error.status, code, f"{request.method} {request.path}: {error.reason}", fix)
