"""Tokens at the edge: of one issuer, with the keys that it publishes; everybody else's are refused."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from gateway.app import ConfigError, Gateway, GatewayConfig
from gateway.tokens import Issuer, Tokens
from tests.gateway.probe import SERVICE, ProbeServer, reason_of, shim

pytestmark = pytest.mark.asyncio(loop_scope="module")

AUDIENCE = "https://api.example"
KEYS: dict[str, tuple[str, Any]] = {
    "r": ("RS256", rsa.generate_private_key(public_exponent=65537, key_size=2048)),
    "e": ("ES256", ec.generate_private_key(ec.SECP256R1())),
    "d": ("EdDSA", ed25519.Ed25519PrivateKey.generate()),
}
TO_JWK: dict[str, Callable[[Any], str]] = {
    "r": RSAAlgorithm.to_jwk,
    "e": ECAlgorithm.to_jwk,
    "d": OKPAlgorithm.to_jwk,
}


class IssuerServer:
    """Publishes keys over HTTP as an OpenID provider does."""

    def __init__(self) -> None:
        self.published = ["r", "e", "d"]
        self.asked = 0
        self.url = ""
        # How many blanks stand before the keys, and how long each byte takes of as many.
        self.blanks = 0
        self.each_s = 0.0

    def token(self, key: str = "r", **changes: Any) -> str:
        """A token that is good but for the changes."""
        now = int(time.time())
        claims = {"iss": self.url, "aud": AUDIENCE, "sub": "a", "iat": now, "exp": now + 60} | changes
        algorithm, private = KEYS[key]
        return jwt.encode(
            {name: value for name, value in claims.items() if value is not None},
            private,
            algorithm=algorithm,
            headers={"kid": key},
        )

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            yield

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"openid-configuration" in head:
            body = json.dumps({"issuer": self.url, "jwks_uri": f"{self.url}/keys"}).encode()
        else:
            self.asked += 1
            keys = json.dumps({"keys": [_jwk(name) for name in self.published]})
            body = b" " * self.blanks + keys.encode()
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body))
        drops, rest = (body[: self.blanks], body[self.blanks :]) if self.each_s else (b"", body)
        for drop in drops:
            if not writer.is_closing():
                writer.write(bytes([drop]))
                await asyncio.sleep(self.each_s)
        writer.write(rest)
        with suppress(ConnectionError):
            await writer.drain()
        writer.close()


def _jwk(name: str) -> dict[str, Any]:
    algorithm, private = KEYS[name]
    return {**json.loads(TO_JWK[name](private.public_key())), "kid": name, "use": "sig", "alg": algorithm}


@asynccontextmanager
async def guarded(probe_set: bytes, probe: ProbeServer) -> AsyncIterator[tuple[IssuerServer, httpx.AsyncClient]]:
    issuer = IssuerServer()
    async with issuer.serving():
        config = {"issuer": issuer.url, "audience": AUDIENCE}
        async with shim(probe_set, probe.address, jwt=config) as client:
            yield issuer, client


def bearing(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def test_a_good_token_is_let_through_and_its_keys_are_asked_for_once(
    probe_set: bytes, probe: ProbeServer
) -> None:
    async with guarded(probe_set, probe) as (issuer, client):
        for key in KEYS:
            for _ in range(3):
                answer = await client.get("/v1/things/mine", headers=bearing(issuer.token(key)))
                assert answer.status_code == 200, answer.text
        assert issuer.asked == 1
        passed_on = await client.get("/v1/arrival", headers=bearing(issuer.token()))
        assert passed_on.json()["metadata"]["authorization"].startswith("Bearer ey")


async def test_a_token_that_is_not_good_is_refused(probe_set: bytes, probe: ProbeServer) -> None:
    async with guarded(probe_set, probe) as (issuer, client):
        now = int(time.time())
        good = issuer.token()
        secret = jwt.encode({"iss": issuer.url, "aud": AUDIENCE, "exp": now + 60}, "x" * 32, "HS256", {"kid": "r"})
        unsigned = jwt.encode({"iss": issuer.url, "aud": AUDIENCE, "exp": now + 60}, "", "none", {"kid": "r"})
        bad = [
            issuer.token(exp=now - 60),
            issuer.token(exp=None),
            issuer.token(exp=10**400),
            issuer.token(exp=float("inf")),
            issuer.token(nbf=now + 120),
            issuer.token(nbf=10**400),
            issuer.token(iat=10**400),
            issuer.token(iat=float("-inf")),
            issuer.token(iss="https://other.example"),
            issuer.token(aud="https://other.example"),
            issuer.token(aud=None),
            good[:-4] + ("AAAA" if good[-4:] != "AAAA" else "BBBB"),
            secret,
            unsigned,
            "not.a.token",
        ]
        for token in bad:
            answer = await client.get("/v1/things/mine", headers=bearing(token))
            assert (answer.status_code, reason_of(answer)) == (401, "TOKEN_INVALID"), token
            assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
        basic = await client.get("/v1/things/mine", headers={"authorization": "Basic eDp5"})
        assert (basic.status_code, basic.headers["www-authenticate"]) == (401, 'Bearer error="invalid_request"')


async def test_who_comes_without_is_let_through_where_anybody_is(probe_set: bytes, probe: ProbeServer) -> None:
    async with guarded(probe_set, probe) as (issuer, client):
        for target in ("/v1/things/x", "/v1/things/mine", "/v1/arrival"):
            assert (await client.get(target)).status_code == 200
        closed = await client.patch("/v1/things/x", json={})
        assert (closed.status_code, reason_of(closed), closed.headers["www-authenticate"]) == (
            401,
            "TOKEN_MISSING",
            "Bearer",
        )
        assert (await client.patch("/v1/things/x", json={}, headers=bearing(issuer.token()))).status_code == 200


async def test_a_new_key_is_found_but_not_asked_for_at_will(probe_set: bytes, probe: ProbeServer) -> None:
    now = 1000.0
    issuer = IssuerServer()
    issuer.published = ["r"]
    async with issuer.serving():
        jwks_uri = f"{issuer.url}/keys"
        tokens = Tokens(Issuer(issuer=issuer.url, audience=AUDIENCE, jwks_uri=jwks_uri), clock=lambda: now)
        await tokens.check(f"Bearer {issuer.token('r')}", "")
        issuer.published = ["r", "e"]
        for _ in range(5):
            with pytest.raises(Exception, match="not valid"):
                await tokens.check(f"Bearer {issuer.token('e')}", "")
        assert issuer.asked == 1
        now += 11
        await tokens.check(f"Bearer {issuer.token('e')}", "")
        assert issuer.asked == 2
        await tokens.close()


async def test_without_keys_nobody_is_told_that_the_token_is_bad(probe_set: bytes, probe: ProbeServer) -> None:
    issuer = IssuerServer()
    async with issuer.serving():
        token = issuer.token()
    async with shim(probe_set, probe.address, jwt={"issuer": issuer.url, "audience": AUDIENCE}) as client:
        answer = await client.get("/v1/things/mine", headers=bearing(token))
        assert (answer.status_code, reason_of(answer)) == (503, "KEYS_UNAVAILABLE")
        assert (await client.get("/v1/things/x")).status_code == 200


@pytest.mark.parametrize(("blanks", "each_s"), [(1000, 0.02), (3 << 20, 0.0)], ids=["drips", "is too large"])
async def test_keys_that_do_not_end_hold_nobody_up(
    probe_set: bytes, probe: ProbeServer, monkeypatch: pytest.MonkeyPatch, blanks: int, each_s: float
) -> None:
    monkeypatch.setattr("gateway.tokens._FETCH_S", 0.5)
    async with guarded(probe_set, probe) as (issuer, client):
        issuer.blanks, issuer.each_s = blanks, each_s
        began = time.monotonic()
        answer = await client.get("/v1/things/mine", headers=bearing(issuer.token()))
        assert (answer.status_code, reason_of(answer)) == (503, "KEYS_UNAVAILABLE")
        assert time.monotonic() - began < 5


async def test_an_issuer_that_is_told_wrongly_is_refused_at_start(probe_set: bytes) -> None:
    config = GatewayConfig(
        descriptor_set=probe_set, upstreams={SERVICE: "127.0.0.1:1"}, jwt={"issuer": "https://a.example", "aud": "x"}
    )
    with pytest.raises(ConfigError) as refused:
        Gateway(config)
    assert refused.value.problems == (
        "jwt: aud is no key; there are audience, issuer, jwks_uri",
        "jwt: audience is missing",
    )
