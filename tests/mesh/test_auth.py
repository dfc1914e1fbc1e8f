import asyncio
import hmac
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.empty_pb2 import Empty
from grpc import aio, method_handlers_generic_handler, unary_unary_rpc_method_handler
from jwt.algorithms import OKPAlgorithm
from jwt.utils import base64url_encode

from mesh.auth import AUDIENCE, Authenticator, ServiceCredential, keys_from
from mesh.caller import GUEST, Caller, Tier
from mesh.clock import Clock
from mesh.errors import Failure, Kind, unavailable

SECRET = "a secret of more than thirty-two characters"


class Issuer:
    """An issuer of tokens: its keys by id, and how often they were asked for."""

    def __init__(self) -> None:
        self.keys = {"key-1": Ed25519PrivateKey.generate()}
        self.fetched = 0
        self.away = False

    async def fetch(self) -> dict[str, Any]:
        self.fetched += 1
        await asyncio.sleep(0)
        if self.away:
            raise unavailable("UPSTREAM_UNAVAILABLE", "Away.")
        return {"keys": [self.public(key_id) for key_id in self.keys]}

    def public(self, key_id: str) -> dict[str, str]:
        return {**OKPAlgorithm.to_jwk(self.keys[key_id].public_key(), as_dict=True), "kid": key_id}

    def token(self, key_id: str = "key-1", *, key: Ed25519PrivateKey | None = None, **claims: Any) -> str:
        return jwt.encode(payload(**claims), key or self.keys[key_id], algorithm="EdDSA", headers={"kid": key_id})


def payload(**claims: Any) -> dict[str, Any]:
    made = {"aud": AUDIENCE, "sub": "ann", "role": "customer", "exp": int(time.time()) + 60} | claims
    return {name: value for name, value in made.items() if value is not None}


def signed_with(secret: bytes, claims: dict[str, Any]) -> str:
    """A token signed by HMAC with any secret; PyJWT would refuse to sign with a public key."""
    parts = (json.dumps(part).encode() for part in ({"alg": "HS256", "typ": "JWT", "kid": "key-1"}, claims))
    text = b".".join(base64url_encode(part) for part in parts)
    return (text + b"." + base64url_encode(hmac.digest(secret, text, "sha256"))).decode()


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def authenticator(issuer: Issuer) -> Authenticator:
    return Authenticator(SECRET, issuer.fetch)


async def refused(authenticator: Authenticator, token: str) -> Failure:
    with pytest.raises(Failure) as caught:
        await authenticator.authenticate(f"Bearer {token}")
    return caught.value


async def test_nothing_shown_is_a_guest(authenticator: Authenticator, issuer: Issuer) -> None:
    assert await authenticator.authenticate(None) == GUEST
    assert issuer.fetched == 0


@pytest.mark.parametrize(("role", "tier"), [("customer", Tier.CUSTOMER), ("operator", Tier.OPERATOR)])
async def test_a_token_says_who_calls(authenticator: Authenticator, issuer: Issuer, role: str, tier: Tier) -> None:
    assert await authenticator.authenticate(f"Bearer {issuer.token(role=role)}") == Caller(tier, "ann")


async def test_the_scheme_is_read_in_any_case(authenticator: Authenticator, issuer: Issuer) -> None:
    assert (await authenticator.authenticate(f"bearer {issuer.token()}")).subject == "ann"


async def test_a_services_credential_says_which_service_calls(authenticator: Authenticator, issuer: Issuer) -> None:
    [(name, value)] = ServiceCredential("checkout", SECRET).metadata()

    assert name == "authorization"
    assert await authenticator.authenticate(value) == Caller(Tier.SERVICE, "checkout")
    assert issuer.fetched == 0


async def test_a_services_credential_is_made_anew_before_it_runs_out() -> None:
    now = datetime.now(UTC)
    credential = ServiceCredential("checkout", SECRET, clock=Clock(now=lambda: now))
    first, again = credential.metadata(), credential.metadata()
    now += timedelta(seconds=200)

    assert first == again
    assert credential.metadata() != first


async def test_a_services_credential_of_another_secret_is_refused(authenticator: Authenticator) -> None:
    [(_, value)] = ServiceCredential("checkout", SECRET + "!").metadata()

    assert (await refused(authenticator, value.removeprefix("Bearer "))).reason == "TOKEN_INVALID"


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic YTpi", "token", "Bearer a.b.c", "Bearer \u00e9", "Bearer " + "." * 5000]
)
async def test_what_is_no_bearer_token_is_refused(authenticator: Authenticator, header: str) -> None:
    with pytest.raises(Failure) as caught:
        await authenticator.authenticate(header)

    assert (caught.value.kind, caught.value.reason) == (Kind.UNAUTHENTICATED, "TOKEN_INVALID")


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": 1},
        {"exp": None},
        {"aud": "another"},
        {"aud": None},
        {"sub": None},
        {"role": "service"},
        {"role": "emperor"},
        {"role": None},
        {"nbf": 2**40},
    ],
    ids=str,
)
async def test_a_token_with_wrong_claims_is_refused(
    authenticator: Authenticator, issuer: Issuer, claims: dict[str, Any]
) -> None:
    assert (await refused(authenticator, issuer.token(**claims))).reason == "TOKEN_INVALID"


async def test_a_token_signed_by_another_key_of_the_same_id_is_refused(
    authenticator: Authenticator, issuer: Issuer
) -> None:
    forged = issuer.token(key=Ed25519PrivateKey.generate())

    assert (await refused(authenticator, forged)).reason == "TOKEN_INVALID"


@pytest.mark.parametrize("encoding", ["raw", "pem", "jwk"])
async def test_the_public_key_is_no_secret_to_sign_with(
    authenticator: Authenticator, issuer: Issuer, encoding: str
) -> None:
    public = issuer.keys["key-1"].public_key()
    secret = {
        "raw": public.public_bytes_raw(),
        "pem": public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "jwk": json.dumps(issuer.public("key-1")).encode(),
    }[encoding]
    forged = signed_with(secret, payload(iss="mesh"))

    assert (await refused(authenticator, forged)).reason == "TOKEN_INVALID"


async def test_the_forgers_tool_makes_good_tokens_with_the_right_secret(authenticator: Authenticator) -> None:
    token = signed_with(SECRET.encode(), payload(iss="mesh", sub="cart"))

    assert await authenticator.authenticate(f"Bearer {token}") == Caller(Tier.SERVICE, "cart")


async def test_a_services_secret_makes_no_customer(authenticator: Authenticator) -> None:
    forged = jwt.encode(payload(iss="identity"), SECRET, algorithm="HS256", headers={"kid": "key-1"})

    assert (await refused(authenticator, forged)).reason == "TOKEN_INVALID"


async def test_a_token_that_is_not_signed_is_refused(authenticator: Authenticator) -> None:
    unsigned = jwt.encode(payload(), "", algorithm="none", headers={"kid": "key-1"})

    assert (await refused(authenticator, unsigned)).reason == "TOKEN_INVALID"


async def test_an_expired_token_is_refused_though_it_was_good_before(
    authenticator: Authenticator, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = issuer.token(exp=int(time.time()) + 1)
    assert await authenticator.authenticate(f"Bearer {token}")

    async with asyncio.timeout(10):
        while True:
            try:
                await authenticator.authenticate(f"Bearer {token}")
            except Failure as failure:
                assert failure.reason == "TOKEN_INVALID"  # noqa: PT017 - it is awaited
                break
            await asyncio.sleep(0.05)


async def test_an_unknown_key_asks_the_issuer_once(authenticator: Authenticator, issuer: Issuer) -> None:
    stranger = Ed25519PrivateKey.generate()
    await authenticator.authenticate(f"Bearer {issuer.token()}")

    for number in range(20):
        assert (
            await refused(authenticator, issuer.token(f"unknown-{number}", key=stranger))
        ).kind is Kind.UNAUTHENTICATED

    assert issuer.fetched == 1


async def test_many_first_calls_at_once_ask_the_issuer_once(authenticator: Authenticator, issuer: Issuer) -> None:
    tokens = [issuer.token(sub=f"customer-{n}") for n in range(20)]

    callers = await asyncio.gather(*(authenticator.authenticate(f"Bearer {token}") for token in tokens))

    assert [caller.subject for caller in callers] == [f"customer-{n}" for n in range(20)]
    assert issuer.fetched == 1


async def test_a_new_key_is_learnt_after_a_while(
    authenticator: Authenticator, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await authenticator.authenticate(f"Bearer {issuer.token()}")
    issuer.keys["key-2"] = Ed25519PrivateKey.generate()
    token = issuer.token("key-2")
    await refused(authenticator, token)
    monkeypatch.setattr("mesh.auth._KEY_REFRESH_S", 0.0)

    assert (await authenticator.authenticate(f"Bearer {token}")).subject == "ann"
    assert (await authenticator.authenticate(f"Bearer {issuer.token(sub='bob')}")).subject == "bob"


async def test_while_the_issuer_is_away_new_tokens_wait_and_known_ones_work(
    authenticator: Authenticator, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer.away = True
    failure = await refused(authenticator, issuer.token())
    issuer.away = False
    known = f"Bearer {issuer.token()}"
    await authenticator.authenticate(known)
    issuer.away = True
    monkeypatch.setattr("mesh.auth._KEY_REFRESH_S", 0.0)

    assert (failure.kind, failure.reason) == (Kind.UNAVAILABLE, "KEYS_UNAVAILABLE")
    assert (await authenticator.authenticate(known)).subject == "ann"
    assert (await authenticator.authenticate(f"Bearer {issuer.token(sub='bob')}")).subject == "bob"


async def test_keys_come_over_a_real_call(issuer: Issuer) -> None:
    async def answer(_: Empty, __: Any) -> HttpBody:
        return HttpBody(content_type="application/jwk-set+json", data=json.dumps(await issuer.fetch()).encode())

    handler = unary_unary_rpc_method_handler(
        answer, request_deserializer=Empty.FromString, response_serializer=HttpBody.SerializeToString
    )
    server = aio.server()
    server.add_generic_rpc_handlers((method_handlers_generic_handler("test.Keys", {"Get": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        authenticator = Authenticator(SECRET, keys_from(channel, "/test.Keys/Get"))
        assert (await authenticator.authenticate(f"Bearer {issuer.token()}")).subject == "ann"
    await server.stop(0)


async def test_an_issuer_that_cannot_be_reached_is_unavailable() -> None:
    async with aio.insecure_channel("127.0.0.1:1") as channel:
        failure = await refused(Authenticator(SECRET, keys_from(channel, "/test.Keys/Get")), Issuer().token())

    assert failure.kind is Kind.UNAVAILABLE
