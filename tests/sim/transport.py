"""The network: carries bytes from clients to the nodes behind an address, and their answers back.

On the way messages are late, lost, doubled and overtaken, as the faults say. Servicers register with a host as they
do with grpc.aio's server, and are called through the real interceptor; time-outs and cancellation are those of gRPC.
"""

import asyncio
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc

from tests.sim.log import Log
from tests.sim.loop import LIFE, Life, Loop

Metadata = tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server says: a message, or a status with its trailer."""

    data: bytes = b""
    code: grpc.StatusCode = grpc.StatusCode.OK
    details: str = ""
    trailer: Metadata = ()


@dataclass(slots=True, eq=False)
class Flight:
    """One attempt at a call, from the client's first byte to its answer."""

    number: int
    address: str
    path: str
    data: bytes
    metadata: Metadata
    # How long the client waits; a server counts from when the call reaches it, which may be much later.
    timeout_s: float
    answer: asyncio.Future[Answer]
    caller: str
    serving: list[tuple["Host", asyncio.Task[None]]] = field(default_factory=list)

    def __str__(self) -> str:
        return f"#{self.number} {self.path.rpartition('.')[2]} {zlib.crc32(self.data):08x}"


class NetworkFaults(Protocol):
    """What may go wrong with a message."""

    def delay_s(self, path: str = "") -> float:
        """How long this message is on its way; an answer says to which call."""

    def is_cut(self, caller: str, address: str) -> bool:
        """Whether nothing passes between these two at present."""

    def loses_request(self) -> bool:
        """Whether this request never arrives."""

    def loses_answer(self) -> bool:
        """Whether this answer never arrives, although the call was served."""

    def is_silent(self) -> bool:
        """Whether a client whose message was lost waits for its deadline, instead of seeing the connection break."""

    def echoes_after_s(self) -> float | None:
        """When the same request arrives once more, if it does."""

    async def before_send(self) -> None:
        """A node is about to send a request; it may be stopped here."""


class Host:
    """One node's server: what generated code registers with, and the rules in front of it."""

    def __init__(self, life: Life, address: str) -> None:
        self.life = life
        self.address = address
        self.context: Context = Context()
        self.context.run(LIFE.set, life)
        self.interceptor: Any = None
        # The calls under way.
        self.flights: dict[Flight, None] = {}
        self._handlers: dict[str, Any] = {}

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        """Nothing: they come by name as well."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Take the methods of a servicer. The interceptor has to be there."""
        for name, handler in handlers.items():
            path = f"/{service}/{name}"
            self._handlers[path] = self.interceptor.intercept(path, handler)

    async def handle(self, flight: Flight, *, deadline: float) -> Answer:
        """Serve one call, as grpc.aio's server does."""
        handler = self._handlers.get(flight.path)
        if handler is None:
            return Answer(code=grpc.StatusCode.UNIMPLEMENTED, details="no such method")
        try:
            response = await handler.unary_unary(flight.data, _Context(flight.metadata, deadline))
        except _AbortedError as aborted:
            return aborted.answer
        return Answer(handler.response_serializer(response))


class Network:
    """Carries messages between clients and the hosts that stand behind an address."""

    def __init__(self, loop: Loop, faults: NetworkFaults, *, log: Log) -> None:
        self.log = log
        self.loop = loop
        self.faults = faults
        self._hosts: dict[str, list[Host]] = {}
        self._sent = 0
        self._turns = 0

    def open(self, host: Host) -> None:
        """The host is reachable from now on."""
        self._hosts.setdefault(host.address, []).append(host)

    def close(self, host: Host) -> None:
        """The host refuses connections from now on."""
        if host in self._hosts.get(host.address, ()):
            self._hosts[host.address].remove(host)

    def kill(self, host: Host) -> None:
        """The host is dead; who waits for its answers may see the connection break."""
        self.close(host)
        for flight in host.flights:
            self._lose(flight, "answer")

    async def call(self, address: str, path: str, data: bytes, metadata: Metadata, timeout_s: float) -> Answer:
        """One attempt at a call. Answers what the server said, or what the client concludes from hearing nothing."""
        life = LIFE.get(None)
        if life is not None:
            await self.faults.before_send()
        self._sent += 1
        caller = "" if life is None else life.name
        flight = Flight(self._sent, address, path, data, metadata, timeout_s, self.loop.create_future(), caller)
        self.log.add(f"sends {flight}", flight)
        self._send(flight)
        try:
            async with asyncio.timeout(timeout_s):
                return await flight.answer
        except TimeoutError:
            self.log.add(f"waits no longer {flight}", flight)
            return Answer(code=grpc.StatusCode.DEADLINE_EXCEEDED, details="Deadline Exceeded")
        finally:
            if not flight.answer.done() or flight.answer.cancelled():
                # The server learns that nobody waits any more.
                self._later(self.faults.delay_s(), self._abandon, flight)

    def _send(self, flight: Flight) -> None:
        echo_s = self.faults.echoes_after_s()
        if echo_s is not None:
            self.log.count("requests doubled")
            self._later(echo_s, self._arrive, flight)
        if self.faults.is_cut(flight.caller, flight.address) or self.faults.loses_request():
            self._lose(flight, "request")
        else:
            self._later(self.faults.delay_s(), self._arrive, flight)

    def _lose(self, flight: Flight, what: str) -> None:
        self.log.count(f"{what}s lost")
        self.log.add(f"loses the {what} of {flight}", flight)
        if not self.faults.is_silent():
            broken = Answer(code=grpc.StatusCode.UNAVAILABLE, details="connection reset")
            self._later(self.faults.delay_s(), self._tell, flight, broken)

    def _arrive(self, flight: Flight) -> None:
        hosts = self._hosts.get(flight.address, [])
        if not hosts:
            refused = Answer(code=grpc.StatusCode.UNAVAILABLE, details="connection refused")
            self._later(self.faults.delay_s(), self._tell, flight, refused)
            return
        self._turns += 1
        host = hosts[self._turns % len(hosts)]
        self.log.add(f"gets {flight}", flight, node=host.life.name)
        context = host.context.copy()
        serving = context.run(self.loop.create_task, self._serve(host, flight), context=context)
        flight.serving.append((host, serving))

    async def _serve(self, host: Host, flight: Flight) -> None:
        host.flights[flight] = None
        try:
            async with asyncio.timeout(flight.timeout_s):
                answer = await host.handle(flight, deadline=self.loop.time() + flight.timeout_s)
        except (asyncio.CancelledError, TimeoutError):
            answer = Answer(code=grpc.StatusCode.CANCELLED, details="cancelled")
        finally:
            host.flights.pop(flight, None)
        self.log.add(f"answers {flight} {answer.code.name} {zlib.crc32(answer.data):08x}", (flight, answer))
        if self.faults.is_cut(flight.caller, flight.address) or self.faults.loses_answer():
            self._lose(flight, "answer")
        else:
            self._later(self.faults.delay_s(flight.path), self._tell, flight, answer)

    def _tell(self, flight: Flight, answer: Answer) -> None:
        if not flight.answer.done():
            flight.answer.set_result(answer)

    def _abandon(self, flight: Flight) -> None:
        for host, task in flight.serving:
            if not host.life.is_over and not task.done():
                self.loop.call_soon(task.cancel, context=host.context.copy())

    def _later(self, delay_s: float, work: Callable[..., None], *arguments: Any) -> None:
        # What is on its way belongs to no node.
        self.loop.call_later(delay_s, work, *arguments, context=_NOWHERE.copy())


class _AbortedError(Exception):
    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.details)
        self.answer = answer


class _Context:
    """What of grpc.aio.ServicerContext is used."""

    def __init__(self, metadata: Metadata, deadline: float) -> None:
        self._metadata = metadata
        self._deadline = deadline

    def invocation_metadata(self) -> Metadata:
        return self._metadata

    def time_remaining(self) -> float:
        return max(0.0, self._deadline - asyncio.get_running_loop().time())

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> None:
        raise _AbortedError(Answer(code=code, details=details, trailer=trailing_metadata))


_NOWHERE = Context()
