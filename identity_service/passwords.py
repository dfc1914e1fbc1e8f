"""Passwords and their argon2id hashes, made and checked in a few threads so that the loop never waits for one.

The parameters are the minimum of the OWASP password storage cheat sheet (19 MiB, 2 passes, 1 lane): about 35 ms of one
core each. RFC 9106's low-memory set takes three times as long and 64 MiB, which neither a rush of registrations nor the
memory of an all-in-one process bears.
"""

import asyncio
import base64
import secrets
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from mesh.errors import Failure, Kind

T = TypeVar("T")

TIME_COST = 2
MEMORY_KIB = 19_456
_HASH_BYTES = 32
_SALT_BYTES = 16


class Passwords:
    """At most `threads` hashes are worked on at once and `max_waiting` wait or are worked on; more is refused."""

    def __init__(
        self,
        *,
        threads: int,
        max_waiting: int = 1024,
        time_cost: int = TIME_COST,
        memory_kib: int = MEMORY_KIB,
    ) -> None:
        self._hasher = PasswordHasher(
            time_cost=time_cost,
            memory_cost=memory_kib,
            parallelism=1,
            hash_len=_HASH_BYTES,
            salt_len=_SALT_BYTES,
        )
        # What a password is checked against when nobody has that address: no password has this hash.
        self._nobodys = f"$argon2id$v=19$m={memory_kib},t={time_cost},p=1${_noise(_SALT_BYTES)}${_noise(_HASH_BYTES)}"
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="passwords")
        self._waiting = 0
        self._max_waiting = max_waiting

    async def hash(self, password: str) -> str:
        """A new salted hash in PHC string form. Raises RESOURCE_EXHAUSTED when too many wait."""
        return await self._in_thread(lambda: self._hasher.hash(_normal(password)))

    async def verify(self, password: str, password_hash: str | None) -> bool:
        """Whether the password has that hash. With None, for an unknown account: False, and it takes as long.

        Raises RESOURCE_EXHAUSTED when too many wait.
        """
        return await self._in_thread(lambda: self._matches(password, password_hash or self._nobodys))

    def is_outdated(self, password_hash: str) -> bool:
        """Whether the hash was made with other parameters than ours."""
        return self._hasher.check_needs_rehash(password_hash)

    def close(self) -> None:
        """Drop what waits and let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._waiting >= self._max_waiting:
            message = "Too many passwords are being checked."
            raise Failure(Kind.RESOURCE_EXHAUSTED, "QUEUE_FULL", message, retry_after_s=1.0)
        self._waiting += 1
        try:
            # A caller that gives up while its work waits takes it out of the queue: the executor skips it.
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1

    def _matches(self, password: str, password_hash: str) -> bool:
        try:
            return self._hasher.verify(password_hash, _normal(password))
        except VerificationError:
            return False


def _normal(password: str) -> str:
    # Keyboards spell the same character in several ways (NIST SP 800-63B section 3.1.1.2).
    return unicodedata.normalize("NFKC", password)


def _noise(size: int) -> str:
    return base64.b64encode(secrets.token_bytes(size)).rstrip(b"=").decode()
