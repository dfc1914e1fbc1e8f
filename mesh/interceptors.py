"""What happens to every RPC of every service.

In this order: the caller is authenticated, the access rule checked, the deadline noted, the call made; a failure
becomes a status, with one log line; metrics count both. The rule comes from the method's option in the contract. A
method without one is refused at start-up, so nothing is open by accident; a planned one answers UNIMPLEMENTED.
"""

# Annotations stay unevaluated: grpc's stubs make generic what at run time is not.
from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, cast

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError
from prometheus_client import Counter, Histogram

from mesh import status
from mesh.auth import Authenticator
from mesh.caller import Caller, Tier, set_caller
from mesh.channel import set_deadline
from mesh.clock import SYSTEM_CLOCK, Clock
from mesh.errors import Failure, Kind
from policy.v1 import policy_pb2

Handler = Callable[[Any, grpc.aio.ServicerContext[Any, Any]], Awaitable[Any]]

REQUEST_ID = "x-request-id"
_HANDLED = Counter("grpc_server_handled_total", "Calls answered.", ["method", "code"])
_SECONDS = Histogram("grpc_server_handling_seconds", "Time to answer a call.", ["method"])
_LEAST_TIER = {
    policy_pb2.ACCESS_PUBLIC: Tier.GUEST,
    policy_pb2.ACCESS_OWNER: Tier.GUEST,
    policy_pb2.ACCESS_OPERATOR: Tier.OPERATOR,
    policy_pb2.ACCESS_SERVICE: Tier.SERVICE,
}

_log = logging.getLogger("rpc")


class PolicyInterceptor:
    """Applies the contract's rules to the methods of `services`; others (health, reflection) pass untouched.

    It is asked when a method is registered, not at each call as gRPC's own interceptors are.

    Raises ValueError for a method without an access rule.
    """

    def __init__(
        self, services: Iterable[ServiceDescriptor], authenticator: Authenticator, *, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._authenticator = authenticator
        self._clock = clock
        self._methods = {_path(method): method for service in services for method in service.methods}
        for method in self._methods.values():
            _least_tier(method)

    def intercept(self, path: str, handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
        """The handler of a method inside our rules; of other services' methods, the handler itself."""
        if path not in self._methods:
            return handler
        inner: Handler = _unimplemented if _is_planned(self._methods[path]) else cast("Any", handler.unary_unary)
        if inner is None:
            raise ValueError(f"{path} streams, which the interceptor does not serve yet")
        return grpc.unary_unary_rpc_method_handler(
            cast("Any", self._guarded(path, inner, cast("Any", handler.request_deserializer))),
            response_serializer=_unless_bytes(cast("Any", handler.response_serializer)),
        )

    def _guarded(self, path: str, inner: Handler, parse: Callable[[bytes], Any]) -> Handler:
        least, seconds, handled_ok = (
            _least_tier(self._methods[path]),
            _SECONDS.labels(path),
            _HANDLED.labels(path, "OK"),
        )

        async def call(data: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            started = self._clock.monotonic()
            metadata = context.invocation_metadata() or ()
            try:
                caller = await self._authenticator.authenticate(_value_of("authorization", metadata))
                _check(caller, least)
                set_caller(caller)
                set_deadline(context.time_remaining())
                response = await inner(_parsed(parse, data), context)
            except asyncio.CancelledError:
                _HANDLED.labels(path, "CANCELLED").inc()
                raise
            except Exception as error:  # noqa: BLE001 - the border: whatever it is, the caller gets a status
                failure = _as_failure(path, error)
            else:
                handled_ok.inc()
                seconds.observe(self._clock.monotonic() - started)
                return response
            request_id = _value_of(REQUEST_ID, metadata) or self._clock.uuid7()
            _HANDLED.labels(path, failure.kind.name).inc()
            _log.info(
                "call failed",
                extra={"method": path, "code": failure.kind.name, "reason": failure.reason, "request_id": request_id},
            )
            try:
                return await status.abort(context, failure)
            finally:
                # Its traceback holds this frame, and the frame the call: neither shall wait for a collection.
                del failure

        return call


def _value_of(key: str, metadata: Iterable[tuple[str, Any]]) -> str | None:
    for name, value in metadata:
        if name == key:
            return str(value)
    return None


def _unless_bytes(serialize: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """A servicer may answer its message's bytes, when it has those already."""
    return lambda response: response if isinstance(response, bytes) else serialize(response)


def _parsed(parse: Callable[[bytes], Any], data: bytes) -> Any:
    # Here and not in grpc, which would answer UNKNOWN with the exception's text.
    try:
        return parse(data)
    except DecodeError as error:
        message = "The request is not a message of the kind that this method takes."
        raise Failure(Kind.INVALID_ARGUMENT, "MALFORMED_REQUEST", message) from error


async def _unimplemented(_: Any, __: grpc.aio.ServicerContext[Any, Any]) -> Any:
    raise Failure(Kind.UNIMPLEMENTED, "PLANNED", "This method is part of the contract and not served yet.")


def _is_planned(method: MethodDescriptor) -> bool:
    return bool(method.GetOptions().Extensions[policy_pb2.method].stage == policy_pb2.STAGE_PLANNED)


def _path(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def _least_tier(method: MethodDescriptor) -> Tier:
    access = method.GetOptions().Extensions[policy_pb2.method].access
    if access not in _LEAST_TIER:
        raise ValueError(f"{method.full_name} has no access rule: set option (policy.v1.method)")
    return _LEAST_TIER[access]


def _check(caller: Caller, least: Tier) -> None:
    if caller.tier >= least:
        return
    if caller.tier is Tier.GUEST:
        raise Failure(Kind.UNAUTHENTICATED, "SIGN_IN_REQUIRED", "This needs a token of a sufficient tier.")
    raise Failure(Kind.PERMISSION_DENIED, "TIER_TOO_LOW", f"This needs the tier {least.name.lower()}.")


def _as_failure(path: str, error: Exception) -> Failure:
    if isinstance(error, Failure):
        return error
    _log.error("call broke", exc_info=error, extra={"method": path})
    return Failure(Kind.INTERNAL, "INTERNAL", "Something went wrong here.")
