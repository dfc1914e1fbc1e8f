"""Access tokens: JWTs signed with Ed25519 (RFC 8037), and the keys that verify them."""

import base64
import hashlib
import json
from collections.abc import Sequence
from datetime import datetime

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from identity_service.domain import ACCESS_TOKEN_TTL, Customer
from mesh.auth import ALGORITHM, AUDIENCE

ISSUER = "shop.identity.v1"


class Signer:
    """Signs with the newest of the private keys (32 bytes in hexadecimal, oldest first) and publishes all."""

    def __init__(self, private_keys: Sequence[str]) -> None:
        keys = [Ed25519PrivateKey.from_private_bytes(bytes.fromhex(key)) for key in private_keys]
        self._key = keys[-1]
        self._public = [_jwk(key) for key in keys]

    def key_set(self) -> dict[str, list[dict[str, str]]]:
        """The public keys as a JWK set (RFC 7517)."""
        return {"keys": self._public}

    def access_token(self, customer: Customer, *, token_id: str, now: datetime) -> str:
        """A token that says who the customer is, good for ACCESS_TOKEN_TTL from now."""
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": customer.customer_id,
            "role": customer.role.value,
            "iat": int(now.timestamp()),
            "exp": int((now + ACCESS_TOKEN_TTL).timestamp()),
            "jti": token_id,
        }
        return jwt.encode(claims, self._key, algorithm=ALGORITHM, headers={"kid": self._public[-1]["kid"]})


def _jwk(key: Ed25519PrivateKey) -> dict[str, str]:
    # These three members, in this order and without spaces, are what the thumbprint is made of (RFC 8037 appendix A.3).
    required = {"crv": "Ed25519", "kty": "OKP", "x": _base64url(key.public_key().public_bytes_raw())}
    thumbprint = hashlib.sha256(json.dumps(required, separators=(",", ":")).encode()).digest()
    return required | {"kid": _base64url(thumbprint), "alg": ALGORITHM, "use": "sig"}


def _base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
