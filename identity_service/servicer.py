"""Between the messages of shop.identity.v1 and the use cases; nothing else."""

import json

import grpc
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.field_mask_pb2 import FieldMask

from identity_service import domain
from identity_service.service import IdentityService
from mesh.caller import current_caller
from mesh.timestamp import timestamp
from mesh.validate import Violations
from shop.identity.v1 import identity_pb2 as pb
from shop.identity.v1 import identity_pb2_grpc

_JWK_SET = "application/jwk-set+json"
_CHANGEABLE = "name"

Context = grpc.aio.ServicerContext[object, object]


class IdentityServicer(identity_pb2_grpc.IdentityServiceServicer):
    """Answers shop.identity.v1.IdentityService."""

    def __init__(self, service: IdentityService) -> None:
        self._service = service

    async def Register(self, request: pb.RegisterRequest, context: Context) -> pb.Customer:
        """See the contract."""
        return _customer(await self._service.register(request.email, request.password, name=request.name))

    async def IssueToken(self, request: pb.IssueTokenRequest, context: Context) -> pb.TokenPair:
        """See the contract."""
        return _pair(await self._service.issue_token(request.email, request.password))

    async def RefreshToken(self, request: pb.RefreshTokenRequest, context: Context) -> pb.TokenPair:
        """See the contract."""
        return _pair(await self._service.refresh_token(request.refresh_token))

    async def RevokeToken(self, request: pb.RevokeTokenRequest, context: Context) -> pb.RevokeTokenResponse:
        """See the contract."""
        await self._service.revoke_token(request.refresh_token)
        return pb.RevokeTokenResponse()

    async def GetMe(self, request: pb.GetMeRequest, context: Context) -> pb.Customer:
        """See the contract."""
        return _customer(await self._service.get_me(current_caller()))

    async def UpdateMe(self, request: pb.UpdateMeRequest, context: Context) -> pb.Customer:
        """See the contract."""
        return _customer(await self._service.update_me(current_caller(), name=_new_name(request)))

    async def GetKeys(self, request: pb.GetKeysRequest, context: Context) -> HttpBody:
        """See the contract."""
        return HttpBody(content_type=_JWK_SET, data=json.dumps(await self._service.get_keys()).encode())


def _new_name(request: pb.UpdateMeRequest) -> str | None:
    """The name to set; None when the mask leaves it out. Raises INVALID_ARGUMENT for any other field (AIP-134)."""
    if request.update_mask == FieldMask(paths=["*"]):
        return request.customer.name
    violations = Violations()
    for path in request.update_mask.paths:
        if path != _CHANGEABLE:
            violations.add("update_mask", f"'{path[:64]}' cannot be changed")
    # Without a mask, what the body holds is meant.
    held = [] if request.update_mask.paths else [field.name for field, _ in request.customer.ListFields()]
    for name in held:
        if name != _CHANGEABLE:
            violations.add(f"customer.{name}", "cannot be changed")
    violations.raise_if_any()
    return request.customer.name if _CHANGEABLE in (*request.update_mask.paths, *held) else None


def _customer(customer: domain.Customer) -> pb.Customer:
    return pb.Customer(
        customer_id=customer.customer_id,
        email=customer.email,
        name=customer.name,
        role=customer.role.value,
        create_time=timestamp(customer.create_time),
    )


def _pair(pair: domain.TokenPair) -> pb.TokenPair:
    return pb.TokenPair(
        access_token=pair.access_token,
        refresh_token=pair.refresh_token,
        expires_in=int(domain.ACCESS_TOKEN_TTL.total_seconds()),
        token_type="Bearer",  # noqa: S106 - the scheme's name
    )
