"""How often one may ask: a steady rate with room for a burst, for each address and for each bearer of a token.

Counted in this process, so no request waits for it; shared_rates.py has replicas learn of each other. What is
remembered of an asker is one moment: when it would have used up what it has had, at the steady rate (the generic cell
rate algorithm). How many askers are remembered has a bound, whoever sends from ever new addresses, which the memory of
the common library for this (limits) has not.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from ipaddress import IPv6Address

import grpc

from gateway.errors import HttpError, retry_info

KINDS = ("address", "client")
"""Who is counted: where a request comes from, and what it shows as Authorization."""
SLOWEST = 1e-6
"""Of the rates: a request in eleven days and a half."""
# As many characters as an address may have; what a proxy says may be anything.
_MOST_ADDRESS = 45
# So many seconds' worth may come at once.
_BURST_S = 2.0
_LEAST_BURST = 5
_REMEMBERED = 50_000
# Sums of fractions are not exact.
_ROUNDING_S = 1e-6

Headers = list[tuple[bytes, bytes]]


class Limiter:
    """Counts the requests of each asker of one kind."""

    def __init__(
        self, kind: str, rate: float, *, most: int = _REMEMBERED, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`rate` in requests a second, SLOWEST or more."""
        self.kind = kind
        self.each_s = 1 / rate
        self._burst = max(_LEAST_BURST, math.ceil(rate * _BURST_S))
        # How long it takes to have a burst again.
        self.window_s = self._burst * self.each_s
        self._used_up: OrderedDict[str, float] = OrderedDict()
        self._most = most
        self._clock = clock
        self._policy = b'"%s";q=%d;w=%d' % (kind.encode(), self._burst, math.ceil(self.window_s))

    def check(self, asker: str) -> None:
        """Count nothing. Raises HttpError 429 if a request may not be made now."""
        self._next(asker, self._clock())

    def count(self, asker: str) -> Headers:
        """Count a request, and answer what its answer should tell. Raises HttpError 429, which counts for nothing."""
        now = self._clock()
        used_up = self._next(asker, now)
        self._keep(asker, used_up)
        return self._headers(int((self.window_s - (used_up - now)) / self.each_s + _ROUNDING_S), used_up - now)

    def learn(self, asker: str, used_up: float) -> None:
        """Take in that an asker will not have used up what it has had before this moment, of the limiter's clock."""
        if used_up > self._used_up.get(asker, 0.0):
            self._keep(asker, used_up)

    def _next(self, asker: str, now: float) -> float:
        """When an asker will have used up what it has had and one more."""
        used_up = max(now, self._used_up.get(asker, 0.0)) + self.each_s
        if used_up - now > self.window_s + _ROUNDING_S:
            raise self._refused(used_up - now - self.window_s)
        return used_up

    def _keep(self, asker: str, used_up: float) -> None:
        self._used_up[asker] = used_up
        self._used_up.move_to_end(asker)
        if len(self._used_up) > self._most:
            self._used_up.popitem(last=False)

    def _refused(self, wait_s: float) -> HttpError:
        message = f"too many requests of one {self.kind}; the next may come in {wait_s:.1f} s"
        return HttpError(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "RATE_LIMITED",
            message,
            details=[retry_info(wait_s)],
            headers=self._headers(0, wait_s),
        )

    def _headers(self, left: int, reset_s: float) -> Headers:
        """As draft-ietf-httpapi-ratelimit-headers has them."""
        state = b'"%s";r=%d;t=%d' % (self.kind.encode(), left, math.ceil(reset_s - _ROUNDING_S))
        return [(b"ratelimit-policy", self._policy), (b"ratelimit", state)]


class Limits:
    """The limits that a config sets."""

    def __init__(self, rates: Mapping[str, float], *, note: Callable[[Limiter, str], None] | None = None) -> None:
        """`note` is called with every asker that was counted, and the limiter that did."""
        self._of = {kind: Limiter(kind, rate) for kind, rate in rates.items()}
        self._note = note

    def count(self, address: str, authorization: str) -> Headers:
        """Count a request for all who stand behind it.

        Raises HttpError 429 when one of them may not ask now; it is then counted for nobody.
        """
        names = zip(KINDS, (_network(address), _client(authorization)), strict=True)
        asking = [(self._of[kind], asker) for kind, asker in names if asker and kind in self._of]
        for limiter, asker in asking:
            limiter.check(asker)
        headers: Headers = []
        for limiter, asker in asking:
            headers += limiter.count(asker)
            if self._note is not None:
                self._note(limiter, asker)
        return headers


def _network(address: str) -> str:
    """Who counts as one: an IPv4 address, or the /64 of an IPv6 address, since whoever has one of it has all of it."""
    if ":" in address:
        try:
            ip = IPv6Address(address)
        except ValueError:
            pass
        else:
            return str(ip.ipv4_mapped or IPv6Address(int(ip) >> 64 << 64))
    return address[:_MOST_ADDRESS]


def _client(authorization: str) -> str:
    """A short name for who shows this, which tells nobody what to show."""
    if not authorization:
        return ""
    # The name of a scheme has no letter case.
    scheme, space, rest = authorization.partition(" ")
    return hashlib.blake2b(f"{scheme.lower()}{space}{rest}".encode(), digest_size=16).hexdigest()
