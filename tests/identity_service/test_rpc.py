"""The whole service behind a real gRPC server, as its clients meet it."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from functools import partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import jwt
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from grpc_health.v1 import health_pb2, health_pb2_grpc

from identity_service.app import build, migrate
from identity_service.config import IdentitySettings
from mesh.channel import open_channel
from mesh.errors import Failure
from mesh.program import Program, open_kit
from mesh.status import from_rpc_error
from shop.identity.v1 import identity_pb2 as pb
from shop.identity.v1.identity_pb2_grpc import IdentityServiceStub
from tests.support.servers import free_port

if TYPE_CHECKING:
    from shop.identity.v1.identity_pb2_grpc import IdentityServiceAsyncStub

SERVICE_CONFIG = resources.files("shop").joinpath("service_config.json").read_text()
ANN = pb.RegisterRequest(email="ann@shop.test", password="correct horse", name="Ann")


@pytest.fixture
def settings(tmp_path: Path) -> IdentitySettings:
    return IdentitySettings(grpc_port=free_port(), data_dir=tmp_path, demo=False)


@pytest.fixture
async def channel(settings: IdentitySettings) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to the running service."""
    await migrate(settings)
    program = Program(settings, open_kit(settings, SERVICE_CONFIG))
    await program.start([partial(build, settings)])
    async with open_channel(f"127.0.0.1:{settings.grpc_port}", SERVICE_CONFIG) as channel:
        yield channel
    await program.stop()


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> "IdentityServiceAsyncStub":
    return IdentityServiceStub(channel)


async def refused(call: Awaitable[object]) -> Failure:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)


async def sign_in(stub: "IdentityServiceAsyncStub") -> tuple[tuple[str, str], ...]:
    """Register Ann; the metadata of her calls."""
    await stub.Register(ANN)
    pair = await stub.IssueToken(pb.IssueTokenRequest(email=ANN.email, password=ANN.password))
    return (("authorization", f"{pair.token_type} {pair.access_token}"),)


async def test_a_customer_registers_signs_in_and_changes_the_name(stub: "IdentityServiceAsyncStub") -> None:
    metadata = await sign_in(stub)
    renamed = pb.Customer(name="Anne")

    before = await stub.GetMe(pb.GetMeRequest(), metadata=metadata)
    after = await stub.UpdateMe(pb.UpdateMeRequest(customer=renamed), metadata=metadata)

    assert (before.email, before.name, before.role) == ("ann@shop.test", "Ann", "customer")
    assert before.create_time.seconds > 0
    before.name = "Anne"
    assert after == before


@pytest.mark.parametrize(
    ("mask", "expected"), [(["name"], ""), (["*"], ""), ([], "Ann")], ids=["name", "everything", "what the body holds"]
)
async def test_the_mask_decides_whether_an_empty_name_is_meant(
    stub: "IdentityServiceAsyncStub", mask: list[str], expected: str
) -> None:
    metadata = await sign_in(stub)

    request = pb.UpdateMeRequest(customer=pb.Customer(), update_mask=FieldMask(paths=mask))
    assert (await stub.UpdateMe(request, metadata=metadata)).name == expected


async def test_only_the_name_can_be_changed(stub: "IdentityServiceAsyncStub") -> None:
    metadata = await sign_in(stub)
    by_body = pb.UpdateMeRequest(customer=pb.Customer(email="x@shop.test", role="operator", name="x"))
    by_mask = pb.UpdateMeRequest(customer=by_body.customer, update_mask=FieldMask(paths=["name", "role"]))

    body_failure = await refused(stub.UpdateMe(by_body, metadata=metadata))
    mask_failure = await refused(stub.UpdateMe(by_mask, metadata=metadata))

    assert [violation.field for violation in body_failure.fields] == ["customer.email", "customer.role"]
    assert [violation.field for violation in mask_failure.fields] == ["update_mask"]
    assert (await stub.GetMe(pb.GetMeRequest(), metadata=metadata)).name == "Ann"


@pytest.mark.parametrize(
    ("authorization", "reason"),
    [(None, "SIGN_IN_REQUIRED"), ("Bearer garbage", "TOKEN_INVALID"), ("Basic YTpi", "TOKEN_INVALID")],
)
async def test_a_profile_needs_a_valid_token(
    stub: "IdentityServiceAsyncStub", authorization: str | None, reason: str
) -> None:
    metadata = (("authorization", authorization),) if authorization else ()

    for call in (
        stub.GetMe(pb.GetMeRequest(), metadata=metadata),
        stub.UpdateMe(pb.UpdateMeRequest(), metadata=metadata),
    ):
        failure = await refused(call)
        assert (failure.kind.name, failure.reason) == ("UNAUTHENTICATED", reason)


async def test_a_second_registration_of_an_address_is_refused(stub: "IdentityServiceAsyncStub") -> None:
    answers = await asyncio.gather(*(stub.Register(ANN) for _ in range(10)), return_exceptions=True)

    failures = [from_rpc_error(answer) for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
    assert [failure.reason for failure in failures] == ["EMAIL_TAKEN"] * 9


async def test_wrong_credentials_and_wrong_fields_are_told_apart(stub: "IdentityServiceAsyncStub") -> None:
    unknown = await refused(stub.IssueToken(pb.IssueTokenRequest(email=ANN.email, password=ANN.password)))
    malformed = await refused(stub.Register(pb.RegisterRequest(email="ann", password="short")))

    assert (unknown.kind.name, unknown.reason) == ("UNAUTHENTICATED", "BAD_CREDENTIALS")
    assert [violation.field for violation in malformed.fields] == ["email", "password"]


async def test_refresh_tokens_rotate_and_reuse_ends_the_family(stub: "IdentityServiceAsyncStub") -> None:
    await stub.Register(ANN)
    first = await stub.IssueToken(pb.IssueTokenRequest(email=ANN.email, password=ANN.password))
    second = await stub.RefreshToken(pb.RefreshTokenRequest(refresh_token=first.refresh_token))

    reused = await refused(stub.RefreshToken(pb.RefreshTokenRequest(refresh_token=first.refresh_token)))
    after = await refused(stub.RefreshToken(pb.RefreshTokenRequest(refresh_token=second.refresh_token)))

    assert (second.expires_in, second.token_type) == (900, "Bearer")
    assert (reused.kind.name, reused.reason) == ("UNAUTHENTICATED", "REFRESH_TOKEN_REUSED")
    assert after.reason == "REFRESH_TOKEN_INVALID"


async def test_revoking_answers_ok_for_any_token(stub: "IdentityServiceAsyncStub") -> None:
    await stub.Register(ANN)
    pair = await stub.IssueToken(pb.IssueTokenRequest(email=ANN.email, password=ANN.password))

    for token in (pair.refresh_token, pair.refresh_token, "unknown"):
        assert await stub.RevokeToken(pb.RevokeTokenRequest(refresh_token=token)) == pb.RevokeTokenResponse()
    failure = await refused(stub.RefreshToken(pb.RefreshTokenRequest(refresh_token=pair.refresh_token)))
    assert failure.reason == "REFRESH_TOKEN_INVALID"


async def test_the_published_keys_verify_a_token_without_us(stub: "IdentityServiceAsyncStub") -> None:
    [(_, authorization)] = await sign_in(stub)
    token = authorization.removeprefix("Bearer ")

    body = await stub.GetKeys(pb.GetKeysRequest())

    assert body.content_type == "application/jwk-set+json"
    key = jwt.PyJWKSet.from_json(body.data.decode())[jwt.get_unverified_header(token)["kid"]]
    assert jwt.decode(token, key, algorithms=["EdDSA"], audience="shopmesh")["role"] == "customer"
    assert all("d" not in published for published in json.loads(body.data)["keys"])


async def test_health_tells_that_the_service_is_ready(channel: grpc.aio.Channel) -> None:
    health: Any = health_pb2_grpc.HealthStub(channel)

    answer = await health.Check(health_pb2.HealthCheckRequest(service="shop.identity.v1.IdentityService"))

    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_tokens_outlive_a_restart(settings: IdentitySettings) -> None:
    await migrate(settings)
    metadata: tuple[tuple[str, str], ...] = ()
    for _ in range(2):
        program = Program(settings, open_kit(settings, SERVICE_CONFIG))
        await program.start([partial(build, settings)])
        async with open_channel(f"127.0.0.1:{settings.grpc_port}", SERVICE_CONFIG) as channel:
            stub: IdentityServiceAsyncStub = IdentityServiceStub(channel)
            metadata = metadata or await sign_in(stub)
            assert (await stub.GetMe(pb.GetMeRequest(), metadata=metadata)).email == "ann@shop.test"
        await program.stop()
