"""Bearer tokens verified at the edge: JWTs of one issuer, with the keys that it publishes (OpenID Connect or RFC 7517).

What upstreams do with a token stays theirs; here nobody gets past with one that is forged, stale or somebody else's.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
import jwt

from gateway.errors import HttpError, unavailable

# Signatures with a published key. Those with a secret, and none at all, are not for a stranger's keys.
_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
_DISCOVERY = "/.well-known/openid-configuration"
_LEEWAY_S = 30
# For all that is asked of the issuer to have its keys, and how large each answer may be.
_FETCH_S = 5.0
_MOST_BYTES = 1 << 20
# A key that is not known asks the issuer, and so does time, but no more often than this.
_ASK_AGAIN_S = 10.0
_STALE_S = 3600.0
# Without any keys it is tried more often.
_TRY_AGAIN_S = 1.0
_REMEMBERED = 4096
# Who may not come without a token, in the words of policy/v1.
_CLOSED = frozenset({"operator", "service"})

_log = logging.getLogger("gateway")


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """Whose tokens count. Without `jwks_uri` the issuer's OpenID configuration tells where its keys are."""

    issuer: str
    audience: str
    jwks_uri: str = ""


class Tokens:
    """Checks the Authorization headers of requests. Make it on the running loop."""

    def __init__(self, issuer: Issuer, *, clock: Callable[[], float] = time.time) -> None:
        self._issuer = issuer
        self._clock = clock
        # What comes has the size that it is judged by.
        plain = {"accept-encoding": "identity"}
        self._client = httpx.AsyncClient(timeout=_FETCH_S, follow_redirects=True, headers=plain)
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._asked_at = float("-inf")
        self._asking: asyncio.Task[None] | None = None
        # Until when a header is known to be good.
        self._good: OrderedDict[str, float] = OrderedDict()

    async def check(self, authorization: str, access: str) -> None:
        """Let a request pass, or raise HttpError: 401 for a token that is missing or bad, 503 without keys."""
        if not authorization:
            if access in _CLOSED:
                raise _refused("TOKEN_MISSING", "this method needs a bearer token", "")
            return
        now = self._clock()
        if self._good.get(authorization, 0) > now:
            return
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise _refused("TOKEN_INVALID", "authorization must be 'Bearer <token>'", "invalid_request")
        self._good[authorization] = await self._expiry(token)
        if len(self._good) > _REMEMBERED:
            self._good.popitem(last=False)

    async def close(self) -> None:
        """Close the connections to the issuer."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        await self._client.aclose()

    async def _expiry(self, token: str) -> float:
        """When a token that is good now no longer is."""
        try:
            key = await self._key(str(jwt.get_unverified_header(token).get("kid", "")))
            claims = jwt.decode(
                token,
                key,
                algorithms=[one for one in _ALGORITHMS if one == key.algorithm_name],
                audience=self._issuer.audience,
                issuer=self._issuer.issuer,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "iss", "aud"]},
            )
            return float(claims["exp"])
        except (jwt.PyJWTError, OverflowError) as error:
            raise _refused("TOKEN_INVALID", "the token is not valid or has expired", "invalid_token") from error

    async def _key(self, key_id: str) -> jwt.PyJWK:
        age_s = self._clock() - self._asked_at
        is_asking = self._asking is not None and not self._asking.done()
        may_ask = is_asking or age_s >= (_ASK_AGAIN_S if self._keys else _TRY_AGAIN_S)
        if (key_id not in self._keys and may_ask) or age_s >= _STALE_S:
            await self._ask()
        if not self._keys:
            raise _no_keys()
        if key_id not in self._keys:
            raise jwt.InvalidKeyError
        return self._keys[key_id]

    async def _ask(self) -> None:
        # Whoever comes meanwhile waits for the same answer.
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._fetch(), name="fetch the issuer's keys")
        try:
            await asyncio.shield(self._asking)
        except Exception as error:  # noqa: BLE001 - whatever a stranger's server answers
            # Those that are known are good until told otherwise.
            _log.warning("keys not renewed", extra={"cause": repr(error)})

    async def _fetch(self) -> None:
        self._asked_at = self._clock()
        # The client's own time is for each piece of an answer, and there may be many.
        async with asyncio.timeout(_FETCH_S):
            uri = self._issuer.jwks_uri or (await self._get(self._issuer.issuer.rstrip("/") + _DISCOVERY))["jwks_uri"]
            keys = jwt.PyJWKSet.from_dict(await self._get(uri)).keys
        self._keys = {str(key.key_id or ""): key for key in keys}

    async def _get(self, uri: str) -> Any:
        body = bytearray()
        async with self._client.stream("GET", uri) as response:
            response.raise_for_status()
            async for piece in response.aiter_raw():
                body += piece
                if len(body) > _MOST_BYTES:
                    raise ValueError(f"{uri} answers more than {_MOST_BYTES} bytes")
        return json.loads(body)


def _no_keys() -> HttpError:
    return unavailable("tokens cannot be verified now, try again", "KEYS_UNAVAILABLE")


def _refused(reason: str, message: str, problem: str) -> HttpError:
    challenge = f'Bearer error="{problem}"' if problem else "Bearer"
    error = HttpError(grpc.StatusCode.UNAUTHENTICATED, reason, message)
    error.headers = [(b"www-authenticate", challenge.encode())]
    return error
