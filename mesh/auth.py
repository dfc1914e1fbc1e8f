"""Credentials: verifying the tokens that come in, and signing the ones that services send each other.

Customers and operators carry a JWT of the identity service (EdDSA, verified with its published keys). Services sign a
short-lived JWT of their own with the secret that all of the mesh shares (HS256); see docs/adr/0005.
"""

import asyncio
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import jwt
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.empty_pb2 import Empty

from mesh import status
from mesh.caller import GUEST, Caller, Tier
from mesh.clock import SYSTEM_CLOCK, Clock
from mesh.errors import Failure, Kind, unavailable

AUDIENCE = "shopmesh"
ALGORITHM = "EdDSA"
_SERVICE_ALGORITHM = "HS256"
_SERVICE_ISSUER = "mesh"
_SERVICE_TTL_S = 300
# How far the clocks of two of our machines may lie apart before they stop understanding each other.
_SERVICE_LEEWAY_S = 900
_CACHED_TOKENS = 4096
# A token signed by a key we do not know asks the issuer for new keys, but not more often than this.
_KEY_REFRESH_S = 10.0
_ROLES = {"customer": Tier.CUSTOMER, "operator": Tier.OPERATOR}

_FETCH_TIMEOUT_S = 2.0

# Answers a JWK set (RFC 7517) as a dict.
FetchKeys = Callable[[], Awaitable[dict[str, Any]]]


def keys_from(channel: grpc.aio.Channel, method: str) -> FetchKeys:
    """Fetch the JWK set from an RPC that takes nothing and answers google.api.HttpBody."""
    call = channel.unary_unary(
        method,
        request_serializer=Empty.SerializeToString,
        response_deserializer=HttpBody.FromString,
    )

    async def fetch() -> dict[str, Any]:
        try:
            body = await call(Empty(), timeout=_FETCH_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise status.from_rpc_error(error) from error
        keys: dict[str, Any] = json.loads(body.data)
        return keys

    return fetch


class ServiceCredential:
    """What a service shows when it calls another: a JWT in its own name, renewed before it runs out."""

    def __init__(self, name: str, secret: str, *, ttl_s: int = _SERVICE_TTL_S, clock: Clock = SYSTEM_CLOCK) -> None:
        self._name = name
        self._secret = secret
        self._ttl_s = ttl_s
        self._clock = clock
        self._metadata: tuple[tuple[str, str], ...] = ()
        self._renew_at = 0.0

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The gRPC metadata that carries the credential."""
        now = self._clock.now().timestamp()
        if now >= self._renew_at:
            claims = {"iss": _SERVICE_ISSUER, "aud": AUDIENCE, "sub": self._name, "exp": int(now) + self._ttl_s}
            token = jwt.encode(claims, self._secret, algorithm=_SERVICE_ALGORITHM)
            self._metadata = (("authorization", f"Bearer {token}"),)
            self._renew_at = now + self._ttl_s / 2
        return self._metadata


class Authenticator:
    """Turns the authorization of a call into its Caller; remembers tokens that it has verified until they expire."""

    def __init__(self, service_secret: str, fetch_keys: FetchKeys, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._secret = service_secret
        self._fetch_keys = fetch_keys
        self._clock = clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = float("-inf")
        self._refreshing: asyncio.Task[None] | None = None
        self._verified: OrderedDict[str, tuple[Caller, float]] = OrderedDict()

    async def authenticate(self, authorization: str | None) -> Caller:
        """The caller behind an authorization header; a guest without one.

        Raises UNAUTHENTICATED TOKEN_INVALID for anything but a valid bearer token, UNAVAILABLE when the keys to verify
        it cannot be had.
        """
        if authorization is None:
            return GUEST
        known = self._verified.get(authorization)
        if known is not None and known[1] > self._clock.now().timestamp():
            return known[0]
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise _invalid("The authorization header must be 'Bearer <token>'.")
        caller, expires_at = await self._verify(token)
        self._remember(authorization, caller, expires_at)
        return caller

    async def _verify(self, token: str) -> tuple[Caller, float]:
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") == _SERVICE_ALGORITHM:
                claims = _claims(token, self._secret, _SERVICE_ALGORITHM, leeway_s=_SERVICE_LEEWAY_S)
                tier = Tier.SERVICE if claims.get("iss") == _SERVICE_ISSUER else None
            else:
                key = await self._key(str(header.get("kid", "")))
                claims = _claims(token, key, ALGORITHM)
                tier = _ROLES.get(str(claims.get("role")))
        except jwt.PyJWTError as error:
            raise _invalid("The token is not valid or has expired.") from error
        if tier is None:
            raise _invalid("The token does not say what its bearer is.")
        return Caller(tier, str(claims["sub"])), float(claims["exp"])

    async def _key(self, key_id: str) -> jwt.PyJWK:
        if key_id not in self._keys and self._clock.monotonic() - self._fetched_at >= _KEY_REFRESH_S:
            await self._refresh_keys()
        if key_id not in self._keys:
            raise _invalid("The token was signed by an unknown key.")
        return self._keys[key_id]

    async def _refresh_keys(self) -> None:
        # Whoever comes while the keys are being fetched waits for the same answer.
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._fetch(), name="fetch keys")
        try:
            await asyncio.shield(self._refreshing)
        except Failure as failure:
            raise unavailable("KEYS_UNAVAILABLE", "The keys to verify tokens cannot be had now.") from failure

    async def _fetch(self) -> None:
        self._keys = {str(key.key_id): key for key in jwt.PyJWKSet.from_dict(await self._fetch_keys()).keys}
        self._fetched_at = self._clock.monotonic()

    def _remember(self, authorization: str, caller: Caller, expires_at: float) -> None:
        self._verified[authorization] = (caller, expires_at)
        if len(self._verified) > _CACHED_TOKENS:
            self._verified.popitem(last=False)


def _claims(token: str, key: str | jwt.PyJWK, algorithm: str, *, leeway_s: float = 0) -> dict[str, Any]:
    options: Any = {"require": ["exp", "sub", "aud"]}
    return jwt.decode(token, key, algorithms=[algorithm], audience=AUDIENCE, options=options, leeway=leeway_s)


def _invalid(message: str) -> Failure:
    return Failure(Kind.UNAUTHENTICATED, "TOKEN_INVALID", message)
