"""Who calls: the identity behind one request, as the interceptor found it."""

import enum
from contextvars import ContextVar
from dataclasses import dataclass

from mesh.errors import Failure, Kind


class Tier(enum.IntEnum):
    """What a caller is."""

    GUEST = 0
    CUSTOMER = 1
    OPERATOR = 2
    SERVICE = 3


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller and its id: a customer's or operator's account id, a service's name, nothing for a guest."""

    tier: Tier
    subject: str = ""

    @property
    def customer_id(self) -> str:
        """The account in whose name the call is made; empty for guests and services."""
        return self.subject if self.tier in (Tier.CUSTOMER, Tier.OPERATOR) else ""

    @property
    def is_operator(self) -> bool:
        """Whether the caller may act for the shop: an operator, or a service of ours."""
        return self.tier in (Tier.OPERATOR, Tier.SERVICE)

    def required_customer_id(self) -> str:
        """The account in whose name the call is made. Raises UNAUTHENTICATED for a guest."""
        if not self.customer_id:
            raise Failure(Kind.UNAUTHENTICATED, "SIGN_IN_REQUIRED", "Sign in first.")
        return self.customer_id


GUEST = Caller(Tier.GUEST)
# Set by the interceptor in the task of each call.
_current: ContextVar[Caller] = ContextVar("caller", default=GUEST)


def current_caller() -> Caller:
    """The caller of the RPC that this task serves."""
    return _current.get()


def set_caller(caller: Caller) -> None:
    """Say who calls; for the interceptor."""
    _current.set(caller)
