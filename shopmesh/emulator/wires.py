"""Two ways to speak to the mesh behind one small protocol: REST and gRPC. Both answer messages of the contract."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol
from urllib.parse import quote

import grpc
import httpx
from google.protobuf import json_format

from mesh import status
from mesh.errors import Failure, Kind
from shopmesh.emulator.contract import PLACE_ORDER, Method, Request, Response

# Longer than anything the mesh lets a caller wait for, so that what fails here has failed there.
TIMEOUT_S = 30.0
# Of one customer: enough for two clicks at once while a third request is being given up.
_LIMITS = httpx.Limits(max_connections=4)
_CHANNEL = (
    # Replicas share the calls. What fails once is seen to fail.
    ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    # A server that is restarted is dialled again soon.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)
_ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"
_RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"


@dataclass(frozen=True, slots=True)
class Answer(Generic[Response]):
    """What was answered: the message, and the bytes that it came as."""

    message: Response
    body: bytes


class Wire(Protocol):
    """Carries calls."""

    name: str

    async def call(self, method: Method[Request, Response], request: Request, *, token: str = "") -> Answer[Response]:
        """Call a method once, as the bearer of `token` or as a guest. Raises Failure, whatever went wrong."""

    async def close(self) -> None:
        """Close the connections."""


class Wires:
    """Gives out wires and closes them: a few connections for each customer over REST, one for all over gRPC.

    `elsewhere` are the services, such as "shop.cart.v1.CartService", that have gRPC addresses of their own.
    """

    def __init__(self, http_url: str, grpc_address: str, *, elsewhere: Mapping[str, str] | None = None) -> None:
        self.grpc = GrpcWire(grpc_address, elsewhere=elsewhere)
        self._http_url = http_url
        # Made once: reading the certificate authorities takes longer than a call.
        self._tls = ssl.create_default_context()
        self._rest: list[RestWire] = []

    def rest(self) -> "RestWire":
        """A new wire, as another browser would have."""
        self._rest.append(RestWire(self._http_url, self._tls))
        return self._rest[-1]

    async def close(self) -> None:
        """Close all that were given out."""
        for wire in self._rest:
            await wire.close()
        await self.grpc.close()


class RestWire:
    """JSON over HTTP/1.1, pooled connections. Not for many customers at once: the pool's cost grows with them."""

    name = "rest"

    def __init__(self, url: str, tls: ssl.SSLContext) -> None:
        # Through a proxy one would measure the proxy.
        self._client = httpx.AsyncClient(base_url=url, verify=tls, timeout=TIMEOUT_S, limits=_LIMITS, trust_env=False)

    async def call(self, method: Method[Request, Response], request: Request, *, token: str = "") -> Answer[Response]:
        """As Wire.call. What is not JSON of the contract fails as DATA_LOSS."""
        http_request = self._request(method, request, token)
        try:
            response = await self._client.send(http_request)
        except httpx.TransportError as error:
            raise _transport_failure(type(error).__name__) from error
        if not response.is_success:
            raise _failure(response)
        try:
            return Answer(json_format.Parse(response.content, method.response()), response.content)
        except json_format.ParseError as error:
            raise Failure(Kind.DATA_LOSS, "NOT_THE_CONTRACT", str(error)) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _request(self, method: Method[Request, Response], request: Request, token: str) -> httpx.Request:
        binding = method.binding
        members = json_format.MessageToDict(request)
        headers = {"authorization": f"Bearer {token}"} if token else {}
        if method.descriptor is PLACE_ORDER.descriptor:
            headers["idempotency-key"] = members.pop("requestId")
        names = {name: request.DESCRIPTOR.fields_by_name[name].json_name for name in binding.fields}
        path = binding.template.format(
            **{name: quote(str(members.pop(json_name)), safe="") for name, json_name in names.items()}
        )
        if binding.has_body:
            return self._client.build_request(binding.verb, path, json=members, headers=headers)
        return self._client.build_request(binding.verb, path, params=_query(members), headers=headers)


class GrpcWire:
    """Protobuf over HTTP/2, one connection to each server."""

    name = "grpc"

    def __init__(self, address: str, *, elsewhere: Mapping[str, str] | None = None) -> None:
        self._address = address
        self._elsewhere = dict(elsewhere or {})
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._stubs: dict[str, Any] = {}

    async def call(self, method: Method[Request, Response], request: Request, *, token: str = "") -> Answer[Response]:
        """As Wire.call."""
        metadata = (("authorization", f"Bearer {token}"),) if token else ()
        try:
            body: bytes = await self._stub(method)(request, timeout=TIMEOUT_S, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise status.from_rpc_error(error) from error
        return Answer(method.response.FromString(body), body)

    async def close(self) -> None:
        """Close the connections."""
        for channel in self._channels.values():
            await channel.close()

    def _stub(self, method: Method[Request, Response]) -> Any:
        if method.path not in self._stubs:
            # No deserializer: the bytes are compared before they are read.
            self._stubs[method.path] = self._channel(method).unary_unary(
                method.path, request_serializer=lambda message: message.SerializeToString()
            )
        return self._stubs[method.path]

    def _channel(self, method: Method[Request, Response]) -> grpc.aio.Channel:
        address = self._elsewhere.get(method.descriptor.containing_service.full_name, self._address)
        if address not in self._channels:
            self._channels[address] = grpc.aio.insecure_channel(address, options=_CHANNEL)
        return self._channels[address]


def _query(members: dict[str, Any]) -> dict[str, str]:
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in members.items()}


def _failure(response: httpx.Response) -> Failure:
    """The failure behind an answer that is not OK, told in the form of AIP-193."""
    try:
        error = response.json()["error"]
        details = {detail["@type"]: detail for detail in error["details"]}
        info = details[_ERROR_INFO]
        delay = details.get(_RETRY_INFO, {}).get("retryDelay")
        return Failure(
            Kind[error["status"]],
            info["reason"],
            error["message"],
            metadata=info.get("metadata", {}),
            retry_after_s=float(delay.removesuffix("s")) if delay else None,
        )
    except (ValueError, KeyError, TypeError):
        return Failure(Kind.UNKNOWN, f"HTTP_{response.status_code}", response.text[:200])


def _transport_failure(name: str) -> Failure:
    return Failure(Kind.UNAVAILABLE, f"TRANSPORT_{name.upper()}", "The mesh could not be reached.", retry_after_s=1.0)
