from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.auth import ServiceCredential
from mesh.channel import Calls, open_channel
from mesh.errors import Failure, FieldViolation, Kind, invalid
from mesh.status import from_status, to_status
from tests.mesh.echo import SECRET, SERVICE, Echo, method, served

texts = st.text(st.characters(codec="utf-8"), max_size=40)
failures = st.builds(
    Failure,
    kind=st.sampled_from(Kind),
    reason=st.from_regex(r"[A-Z][A-Z0-9_]{0,62}", fullmatch=True),
    message=texts,
    metadata=st.dictionaries(texts, texts, max_size=4),
    fields=st.lists(st.builds(FieldViolation, texts, texts), max_size=4).map(tuple),
    retry_after_s=st.none() | st.integers(0, 10**9).map(lambda microseconds: microseconds / 1e6),
)


async def answered(failure: Failure) -> Failure:
    """What a client sees of a failure that a server raised."""

    async def fail(_: str) -> str:
        raise failure

    async with served(Echo(fail)) as address, open_channel(address, "{}") as channel:
        return await seen_through(channel)


async def seen_through(channel: grpc.aio.Channel) -> Failure:
    with pytest.raises(Failure) as caught:
        await Calls(ServiceCredential("test", SECRET))(method(channel), StringValue())
    return caught.value


@given(failures)
def test_a_failure_survives_its_message(failure: Failure) -> None:
    assert from_status(to_status(failure)) == failure


@settings(max_examples=30, deadline=None)
@given(failures)
async def test_a_failure_survives_a_real_call(failure: Failure) -> None:
    assert await answered(failure) == failure


async def test_a_hundred_wrong_fields_survive_a_real_call() -> None:
    violations = (
        FieldViolation(f"lines[{n}].sku", "must be 1 to 64 of the characters A-Z a-z 0-9") for n in range(100)
    )

    failure = await answered(invalid(*violations))

    assert failure.kind is Kind.INVALID_ARGUMENT
    assert [violation.field for violation in failure.fields] == [f"lines[{n}].sku" for n in range(100)]


async def test_of_ten_thousand_wrong_fields_those_arrive_that_fit_into_any_clients_trailer() -> None:
    async def fail(_: str) -> str:
        raise invalid(*(FieldViolation(f"lines[{n}].sku", "must be an id") for n in range(10_000)))

    async with served(Echo(fail)) as address, grpc.aio.insecure_channel(address) as stock_channel:
        failure = await seen_through(stock_channel)

    assert failure.kind is Kind.INVALID_ARGUMENT
    assert [violation.field for violation in failure.fields[:100]] == [f"lines[{n}].sku" for n in range(100)]
    assert failure.message.endswith("lines[4].sku: must be an id; and 9995 more")


async def test_the_facts_of_a_hundred_lines_survive_a_real_call() -> None:
    facts = {f"{'sku-' * 14}{n:08}": "12" for n in range(100)}

    assert (await answered(Failure(Kind.FAILED_PRECONDITION, "OUT_OF_STOCK", "Out.", facts))).metadata == facts


@given(st.integers(-(2**31), 2**31 - 1))
def test_any_code_of_a_stranger_becomes_a_kind(code: int) -> None:
    assert from_status(Status(code=code)).kind in Kind


def test_a_stranger_without_our_details_has_no_reason_of_ours() -> None:
    failure = from_status(Status(code=5, message="gone"))

    assert failure == Failure(Kind.NOT_FOUND, "UNKNOWN", "gone")


def test_details_that_we_do_not_know_are_passed_over() -> None:
    status = to_status(Failure(Kind.ABORTED, "BUSY", "Busy."))
    status.details.add().Pack(Status(code=1))
    status.details.add().Pack(ErrorInfo(reason="BUSY", domain="shopmesh"))

    assert from_status(status).reason == "BUSY"


async def test_a_server_that_is_away_is_worth_a_retry() -> None:
    async with open_channel("127.0.0.1:1", "{}") as channel:
        failure = await seen_through(channel)

    assert failure.kind is Kind.UNAVAILABLE
    assert failure.retry_after_s
    assert "127.0.0.1" not in failure.message


async def test_a_server_that_sends_no_details_is_understood_by_its_code() -> None:
    async def refuse(_: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        await context.abort(grpc.StatusCode.NOT_FOUND, "internal words")
        raise AssertionError

    server = grpc.aio.server()
    handlers: Any = {"Public": grpc.unary_unary_rpc_method_handler(refuse)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with open_channel(f"127.0.0.1:{port}", "{}") as channel:
        failure = await seen_through(channel)
    await server.stop(0)

    assert (failure.kind, failure.reason) == (Kind.NOT_FOUND, "UPSTREAM_NOT_FOUND")
    assert "internal words" not in failure.message
