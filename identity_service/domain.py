"""What an account and its tokens are, and the rules they keep."""

import base64
import enum
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Self

ACCESS_TOKEN_TTL = timedelta(minutes=15)
REFRESH_TOKEN_TTL = timedelta(days=30)
MAX_EMAIL = 254
MAX_NAME = 200
MIN_PASSWORD = 8
MAX_PASSWORD = 256

_MAX_LOCAL_PART = 64
# "Valid e-mail address" of the HTML standard, with a domain of two labels at least.
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_EMAIL = re.compile(rf"[a-z0-9.!#$%&'*+/=?^_`{{|}}~-]+@{_LABEL}(?:\.{_LABEL})+", re.ASCII)


class Role(enum.StrEnum):
    """What an account may act as; the `role` claim of its access tokens."""

    CUSTOMER = "customer"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    """What a customer may be told of the account."""

    customer_id: str
    email: str
    name: str
    role: Role
    create_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAccount:
    """An account that is asked for; it stands only if its e-mail address is free."""

    customer_id: str
    email: str
    name: str
    role: Role
    password_hash: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Account:
    """A customer and what the password is verified with."""

    customer: Customer
    password_hash: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPair:
    """What a sign-in answers."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """An opaque credential, `<family>.<secret>`; both are 32 random bytes in base64url and are stored only as hashes.

    Every rotation keeps the family and draws a new secret. Whoever shows the family part has held one of its tokens, so
    a wrong secret beside it is a spent token.
    """

    family: str = field(repr=False)
    secret: str = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The token that `text` spells, or None when it is none of ours."""
        family, _, secret = text.partition(".")
        return cls(family, secret) if _PART.fullmatch(family) and _PART.fullmatch(secret) else None

    @classmethod
    def draw(cls, random_bytes: Callable[[int], bytes]) -> Self:
        """The first token of a new family."""
        return cls(_part(random_bytes), _part(random_bytes))

    def successor(self, random_bytes: Callable[[int], bytes]) -> "RefreshToken":
        """The next token of the same family."""
        return RefreshToken(self.family, _part(random_bytes))

    @property
    def family_hash(self) -> str:
        """What the family is stored under: SHA-256, 64 hexadecimal digits."""
        return _sha256(self.family)

    @property
    def token_hash(self) -> str:
        """What the family's unspent token is recognised by: SHA-256, 64 hexadecimal digits."""
        return _sha256(self.secret)

    def text(self) -> str:
        """The token as its holder sends it."""
        return f"{self.family}.{self.secret}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One sign-in and what became of it: the only token of the family that still works, and until when."""

    customer_id: str
    token_hash: str
    expire_time: datetime
    revoked: bool


class Verdict(enum.Enum):
    """What a shown refresh token earns."""

    # A new pair.
    ROTATE = enum.auto()
    # A new pair, already written by an earlier run of the same transaction.
    ROTATED = enum.auto()
    # The end of its family: two parties hold it, and nobody knows which one is the customer.
    REUSED = enum.auto()
    # Nothing: unknown, revoked or expired.
    REFUSED = enum.auto()


def judge(family: Family | None, shown: RefreshToken, successor: RefreshToken, *, now: datetime) -> Verdict:
    """Decide what `shown` earns, if `successor` is to take its place (RFC 9700 section 4.14.2)."""
    if family is None or family.revoked or family.expire_time <= now:
        return Verdict.REFUSED
    if family.token_hash == shown.token_hash:
        return Verdict.ROTATE
    return Verdict.ROTATED if family.token_hash == successor.token_hash else Verdict.REUSED


def normal_email(text: str) -> str:
    """The address as it is stored and compared."""
    return text.lower()


def is_email(text: str) -> bool:
    """Tell whether a normal address is one that we accept: ASCII, not quoted, 254 characters at most (RFC 5321)."""
    local_part = text.partition("@")[0]
    return len(text) <= MAX_EMAIL and len(local_part) <= _MAX_LOCAL_PART and _EMAIL.fullmatch(text) is not None


_PART = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


def _part(random_bytes: Callable[[int], bytes]) -> str:
    return base64.urlsafe_b64encode(random_bytes(32)).rstrip(b"=").decode()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
