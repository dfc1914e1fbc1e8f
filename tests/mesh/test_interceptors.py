import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.wrappers_pb2 import StringValue
from jwt.algorithms import OKPAlgorithm

from mesh.auth import AUDIENCE, Authenticator, ServiceCredential
from mesh.caller import current_caller
from mesh.channel import current_deadline, open_channel
from mesh.errors import Failure, Kind
from mesh.interceptors import PolicyInterceptor
from mesh.status import from_rpc_error
from policy.v1 import policy_pb2
from tests.mesh.echo import RULES, SECRET, Call, Echo, describe, method, no_keys, served

KEY = Ed25519PrivateKey.generate()
Metadata = tuple[tuple[str, str], ...]
# Made when the tests are collected, used whenever their turn comes.
A_DAY_S = 86_400


async def keys() -> dict[str, list[dict[str, str]]]:
    return {"keys": [{**OKPAlgorithm.to_jwk(KEY.public_key(), as_dict=True), "kid": "k"}]}


def bearer(role: str) -> Metadata:
    claims = {"aud": AUDIENCE, "sub": "ann", "role": role, "exp": int(time.time()) + A_DAY_S}
    return (("authorization", f"Bearer {jwt.encode(claims, KEY, algorithm='EdDSA', headers={'kid': 'k'})}"),)


CALLERS: dict[str, Metadata] = {
    "guest": (),
    "customer": bearer("customer"),
    "operator": bearer("operator"),
    "service": ServiceCredential("cart", SECRET, ttl_s=A_DAY_S).metadata(),
}
# What each caller gets from each method.
MATRIX = {
    "Public": {"guest": "OK", "customer": "OK", "operator": "OK", "service": "OK"},
    "Owner": {"guest": "OK", "customer": "OK", "operator": "OK", "service": "OK"},
    "Operator": {"guest": "SIGN_IN_REQUIRED", "customer": "TIER_TOO_LOW", "operator": "OK", "service": "OK"},
    "Service": {"guest": "SIGN_IN_REQUIRED", "customer": "TIER_TOO_LOW", "operator": "TIER_TOO_LOW", "service": "OK"},
    "Planned": dict.fromkeys(("guest", "customer", "operator", "service"), "PLANNED"),
}


@contextlib.asynccontextmanager
async def shop(echo: Echo) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a server that knows the key of the callers' tokens."""
    authenticator = Authenticator(SECRET, keys)
    async with served(echo, authenticator=authenticator) as address, open_channel(address, "{}") as channel:
        yield channel


async def outcome(call: Awaitable[object]) -> Failure | None:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error)
    return None


async def test_each_method_lets_in_whom_its_rule_names_and_nobody_else() -> None:
    seen = {}
    async with shop(Echo()) as channel:
        for name in RULES:
            outcomes = {
                who: await outcome(method(channel, name)(StringValue(), metadata=metadata))
                for who, metadata in CALLERS.items()
            }
            seen[name] = {who: failure.reason if failure else "OK" for who, failure in outcomes.items()}

    assert seen == MATRIX


async def test_refusals_have_the_code_that_says_what_to_do() -> None:
    async with shop(Echo()) as channel:
        failures = [
            await outcome(method(channel, "Operator")(StringValue(), metadata=metadata))
            for metadata in (CALLERS["guest"], CALLERS["customer"], (("authorization", "Bearer garbage"),))
        ]
        planned = await outcome(method(channel, "Planned")(StringValue()))

    assert [failure.kind if failure else None for failure in (*failures, planned)] == [
        Kind.UNAUTHENTICATED,
        Kind.PERMISSION_DENIED,
        Kind.UNAUTHENTICATED,
        Kind.UNIMPLEMENTED,
    ]


async def test_a_bad_token_is_refused_even_where_guests_may_call() -> None:
    async with served(Echo()) as address, open_channel(address, "{}") as channel:
        failure = await outcome(method(channel)(StringValue(), metadata=(("authorization", "Bearer garbage"),)))

    assert failure is not None
    assert failure.reason == "TOKEN_INVALID"


async def test_each_call_sees_its_own_caller() -> None:
    async def whoami(_: str) -> str:
        await asyncio.sleep(0)
        return f"{current_caller().tier.name} {current_caller().subject}"

    async with shop(Echo(whoami)) as channel:
        call = method(channel)
        answers = await asyncio.gather(*(call(StringValue(), metadata=CALLERS[who]) for who in CALLERS))

    assert [answer.value for answer in answers] == ["GUEST ", "CUSTOMER ann", "OPERATOR ann", "SERVICE cart"]


async def test_each_call_sees_how_long_it_is_waited_for() -> None:
    async def left(_: str) -> str:
        deadline = current_deadline()
        return "for ever" if deadline is None else str(deadline - asyncio.get_running_loop().time())

    async with served(Echo(left)) as address, open_channel(address, "{}") as channel:
        bounded = await method(channel)(StringValue(), timeout=30)
        unbounded = await method(channel)(StringValue())

    assert 25 < float(bounded.value) < 35
    assert unbounded.value == "for ever"


async def test_an_unknown_exception_is_internal_and_keeps_its_text_to_itself(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(_: str) -> str:
        raise RuntimeError("secret words")

    with caplog.at_level(logging.ERROR):
        async with served(Echo(broken)) as address, open_channel(address, "{}") as channel:
            failure = await outcome(method(channel)(StringValue()))

    assert failure == Failure(Kind.INTERNAL, "INTERNAL", "Something went wrong here.")
    assert [record.getMessage() for record in caplog.records] == ["call broke"]
    assert caplog.records[0].exc_info


async def test_a_failure_is_logged_once_by_method_and_reason_without_its_message(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def refuse(_: str) -> str:
        raise Failure(Kind.NOT_FOUND, "CART_UNKNOWN", "There is no cart of that name.")

    with caplog.at_level(logging.INFO, logger="rpc"):
        async with served(Echo(refuse)) as address, open_channel(address, "{}") as channel:
            await outcome(method(channel)(StringValue(), metadata=(("x-request-id", "r-1"),)))

    [record] = [record for record in caplog.records if record.name == "rpc"]
    assert record.__dict__["reason"] == "CART_UNKNOWN"
    assert record.__dict__["request_id"] == "r-1"
    assert "no cart" not in record.getMessage()


@pytest.mark.parametrize("rule", [None, policy_pb2.MethodPolicy()], ids=["no option", "unspecified"])
def test_a_method_without_an_access_rule_is_refused_before_it_is_served(rule: policy_pb2.MethodPolicy | None) -> None:
    described = describe(f"test.ruleless{'none' if rule is None else 'empty'}.OpenService", {"Open": rule})

    with pytest.raises(ValueError, match=r"OpenService\.Open has no access rule"):
        PolicyInterceptor([described], Authenticator(SECRET, no_keys))


async def test_a_method_that_does_not_exist_is_unimplemented() -> None:
    async with served(Echo()) as address, open_channel(address, "{}") as channel:
        failure = await outcome(method(channel, "Nonsense")(StringValue()))

    assert failure is not None
    assert failure.kind is Kind.UNIMPLEMENTED


async def test_a_request_that_is_no_message_is_the_callers_mistake() -> None:
    async with served(Echo()) as address, open_channel(address, "{}") as channel:
        raw: Call = channel.unary_unary("/test.mesh.v1.EchoService/Public")
        failure = await outcome(raw(b"\xff\xff\xff"))
        well = await method(channel)(StringValue(value="still there"))

    assert failure is not None
    assert (failure.kind, failure.reason) == (Kind.INVALID_ARGUMENT, "MALFORMED_REQUEST")
    assert "StringValue" not in failure.message
    assert well.value == "still there"
