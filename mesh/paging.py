"""Pages of lists: how many, and the opaque token that says where the next one starts (AIP-158)."""

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from mesh.validate import Violations

T = TypeVar("T")
K = TypeVar("K")

_DEFAULT_SIZE = 20
_MOST = 100
_TOKEN_LENGTH = 4096
_TOO_LARGE = 2**63


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list, and the token of the next; empty on the last."""

    items: Sequence[T]
    next_page_token: str


def page_size(violations: Violations, asked: int) -> int:
    """How many to answer: 20 for 0, never more than 100."""
    if asked < 0:
        violations.add("page_size", "must not be negative")
    return min(asked, _MOST) or _DEFAULT_SIZE


def encode_token(listing: object, key: Sequence[str]) -> str:
    """The token for what follows the item with sort key `key` in the list that `listing` describes by its repr."""
    content = json.dumps([_fingerprint(listing), *key], separators=(",", ":"), ensure_ascii=False).encode()
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def decode_token(violations: Violations, token: str, listing: object, read: Callable[[Sequence[str]], K]) -> K | None:
    """What `read` makes of the token's key; None without a token, or with one that is not of this list (noted).

    `read` raises ValueError for a key that is none.
    """
    if not token:
        return None
    try:
        return read(_key(token, listing))
    except (ValueError, RecursionError):
        violations.add("page_token", "is not a token of this list, with this filter and order")
        return None


def bounded_int(text: str) -> int:
    """A number of 64 bits out of a token's key. Raises ValueError."""
    number = int(text)
    if abs(number) >= _TOO_LARGE:
        raise ValueError("too large")
    return number


def aware_time(text: str) -> datetime:
    """A time with its zone out of a token's key. Raises ValueError."""
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("no zone")
    return time


def page(items: Sequence[T], size: int, *, listing: object, key: Callable[[T], Sequence[str]]) -> Page[T]:
    """A page of the first `size` of `items`, of which one more was read to see whether there is a next page."""
    if len(items) <= size:
        return Page(items, "")
    return Page(items[:size], encode_token(listing, key(items[size - 1])))


def _key(token: str, listing: object) -> list[str]:
    if len(token) > _TOKEN_LENGTH or not token.isascii():
        raise ValueError("not a token")
    # binascii.Error, JSONDecodeError and UnicodeDecodeError are ValueErrors.
    content = json.loads(base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True))
    if not isinstance(content, list) or not all(isinstance(part, str) for part in content):
        raise ValueError("not a token")
    if content[:1] != [_fingerprint(listing)]:
        raise ValueError("a token of another list")
    return content[1:]


def _fingerprint(listing: object) -> str:
    return hashlib.blake2b(repr(listing).encode(), digest_size=6).hexdigest()
