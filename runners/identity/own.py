"""Answer the daemon by the trust domain that this child keeps."""

from __future__ import annotations

import time

from runners.identity.authority import bundle_document, certificates, jwt_keys
from runners.identity.domain import TrustDomain
from runners.identity.messages import DAEMON, JWT, Answer, Bundle, Issue, Rotate, Validate
from runners.identity.pem import certificate_pem, key_pem, split_der
from runners.identity.svid import InvalidError, validated

Asked = Issue | Validate | Bundle | Rotate


class OwnIdentity:
    """Signs for the daemon as for a subsystem, but for its SPIFFE id."""

    def __init__(self, domain: TrustDomain) -> None:
        self._domain = domain
        self._spiffe_id = f"spiffe://{domain.name}{DAEMON}"

    async def answer(self, asked: Asked) -> Answer:
        """Answer one question. Raises OSError where new authorities cannot be kept."""
        match asked:
            case Issue(number, kind, audience):
                return self._jwt(number, audience) if kind == JWT else self._x509(number)
            case Validate(number, token, audience):
                return self._validate(number, token, audience)
            case Rotate(number):
                await self._domain.rotate()
                return Answer(number, {"document": self._document()})
            case Bundle(number):
                return Answer(number, {"document": self._document()})

    def _jwt(self, number: int, audience: str) -> Answer:
        svid = self._domain.signer.jwt(self._spiffe_id, [audience], time.time())
        return Answer(number, {"token": svid.token, "spiffe_id": svid.spiffe_id}, svid.until)

    def _x509(self, number: int) -> Answer:
        svid = self._domain.signer.x509(self._spiffe_id, time.time())
        texts = {
            "spiffe_id": svid.spiffe_id,
            "certificate": "".join(map(certificate_pem, split_der(svid.certificate))),
            "key": key_pem(svid.key),
            "bundle": "".join(one.certificate for one in self._domain.kept.authorities),
        }
        return Answer(number, texts, svid.until)

    def _validate(self, number: int, token: str, audience: str) -> Answer:
        try:
            spiffe_id, claims = validated(token, audience, self._domain.kept)
        except InvalidError as error:
            return Answer(number, error=str(error))
        return Answer(number, {"spiffe_id": spiffe_id}, float(claims["exp"]))

    def _document(self) -> str:
        kept = self._domain.kept
        return bundle_document(certificates(kept.authorities), jwt_keys(kept), kept.sequence)
