"""Answer `hmac_sign`: by a key of the vault that is bound to who calls, and that nobody but the daemon sees."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable

from epad.secrets.errors import SecretError
from epad.secrets.purpose import Purpose
from epad.tools.own import OwnCall, OwnToolError, OwnTools
from runners.tools.signing import SignArgs, SignResult

OpenSecret = Callable[[str, Purpose], Awaitable[bytes]]
"""Opens a secret for a purpose that it is bound to. Raises SecretError."""


def signing_tools(open_secret: OpenSecret) -> OwnTools:
    """Return the tool."""

    async def hmac_sign(call: OwnCall) -> SignResult:
        args = call.checked(SignArgs)
        name = args.key_reference.removeprefix("{{secret:").removesuffix("}}")
        try:
            key = await open_secret(name, Purpose(call.session.subsystem))
        except SecretError as error:
            raise OwnToolError(str(error), error.fix) from error
        return SignResult(
            hex=hmac.new(key, args.message.encode(errors="surrogatepass"), "sha256").hexdigest()
        )

    return {"hmac_sign": hmac_sign}
