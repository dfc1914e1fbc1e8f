"""Every method of the contract as the running shop serves it: planned ones say so, all others are there."""

from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from policy.v1 import policy_pb2
from shop.cart.v1 import cart_pb2
from shop.checkout.v1 import checkout_pb2, saga_pb2
from shop.identity.v1 import identity_pb2
from shop.inventory.v1 import catalog_pb2, inventory_pb2
from tests.e2e.shopping import Shopper

METHODS = [
    method
    for module in (identity_pb2, catalog_pb2, inventory_pb2, cart_pb2, checkout_pb2, saga_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]


async def test_exactly_the_planned_methods_are_unimplemented(keeper: Shopper, channel: grpc.aio.Channel) -> None:
    authorization = ("authorization", keeper.headers["authorization"])

    codes = {method.full_name: await call_with_nothing(channel, method, authorization) for method in METHODS}

    unimplemented = {name for name, code in codes.items() if code is grpc.StatusCode.UNIMPLEMENTED}
    assert unimplemented == {method.full_name for method in METHODS if is_planned(method)}
    assert not set(codes.values()) & {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}


async def call_with_nothing(channel: grpc.aio.Channel, method: Any, metadata: tuple[str, str]) -> grpc.StatusCode:
    """The code that an empty request is answered with."""
    call: Any = channel.unary_unary(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=GetMessageClass(method.input_type).SerializeToString,
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    try:
        await call(GetMessageClass(method.input_type)(), metadata=[metadata], timeout=10)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def is_planned(method: MethodDescriptor) -> bool:
    """Whether the contract says that the method comes later."""
    return bool(method.GetOptions().Extensions[policy_pb2.method].stage == policy_pb2.STAGE_PLANNED)
