"""One customer's line to the mesh: a wire, a sign-in, calls that are measured and, where that is safe, repeated."""

import asyncio
import random
import time

from mesh.errors import Failure, Kind
from shop.identity.v1.identity_pb2 import IssueTokenRequest, RefreshTokenRequest, RegisterRequest, TokenPair
from shopmesh.emulator.contract import ISSUE_TOKEN, REFRESH_TOKEN, REGISTER, Method, Request, Response
from shopmesh.emulator.meter import Meter
from shopmesh.emulator.wires import Answer, Wire

_ATTEMPTS = 4
_LONGEST_PAUSE_S = 2.0
# Nobody knows whether it was done.
_UNCERTAIN = (Kind.UNAVAILABLE, Kind.DEADLINE_EXCEEDED)
_RENEW_BEFORE_S = 120


class Session:
    """Makes one customer's calls: a guest's until `sign_in`. Each is tried at most `attempts` times."""

    def __init__(self, wire: Wire, meter: Meter, *, attempts: int = _ATTEMPTS) -> None:
        self._wire = wire
        self._attempts = attempts
        # Where calls are counted from here on.
        self.meter = meter
        self._tokens = TokenPair()
        self._renew_at = float("inf")

    async def register(self, email: str, password: str, name: str) -> str:
        """Make an account and answer its id."""
        answer = await self.call(REGISTER, RegisterRequest(email=email, password=password, name=name))
        return answer.message.customer_id

    async def sign_in(self, email: str, password: str) -> None:
        """From here on every call is the customer's; the token is renewed before it runs out."""
        answer = await self.call(ISSUE_TOKEN, IssueTokenRequest(email=email, password=password))
        self._keep(answer.message)

    async def call(self, method: Method[Request, Response], request: Request) -> Answer[Response]:
        """Call a method; ask again where nothing was done, or where doing it twice does no harm.

        Raises the last Failure.
        """
        if time.monotonic() >= self._renew_at:
            await self._renew()
        for attempt in range(self._attempts):
            try:
                return await self._once(method, request)
            except Failure as failure:
                again = method.is_repeatable if failure.kind in _UNCERTAIN else failure.kind is Kind.RESOURCE_EXHAUSTED
                if not again or attempt == self._attempts - 1:
                    raise
                later_s = min((failure.retry_after_s or 0.1) * 2**attempt, _LONGEST_PAUSE_S)
            await asyncio.sleep(random.uniform(0.5, 1.0) * later_s)  # noqa: S311 - jitter, not a secret
        raise AssertionError("unreachable")

    async def _once(self, method: Method[Request, Response], request: Request) -> Answer[Response]:
        started = time.perf_counter()
        try:
            answer = await self._wire.call(method, request, token=self._tokens.access_token)
        except Failure as failure:
            self.meter.answered(method.name, time.perf_counter() - started)
            expected = failure.reason in method.expected or failure.kind is Kind.RESOURCE_EXHAUSTED
            self.meter.failed(method.name, failure, expected=expected)
            raise
        self.meter.answered(method.name, time.perf_counter() - started)
        return answer

    async def _renew(self) -> None:
        due, self._renew_at = self._renew_at, float("inf")
        try:
            answer = await self.call(REFRESH_TOKEN, RefreshTokenRequest(refresh_token=self._tokens.refresh_token))
        except Failure:
            # The next call tries again.
            self._renew_at = due
            raise
        self._keep(answer.message)

    def _keep(self, tokens: TokenPair) -> None:
        self._tokens = tokens
        self._renew_at = time.monotonic() + tokens.expires_in - _RENEW_BEFORE_S
