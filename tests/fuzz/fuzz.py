"""Many spoilt requests to a real shim, and what is wrong with its answers."""

import asyncio
import json
import random
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.mutate import mutated
from tests.fuzz.seeds import request, seeds
from tests.fuzz.shim import Shim
from tests.gateway.probe import SERVICE, compile_probe, serving

_AT_ONCE = 24
# Who waits for the rest of a request answers nothing; nobody waits for that here.
_PATIENCE_S = 0.25
_MOST_ANSWER = 8 << 20
_MOST_PROBLEMS = 20
# Growth that is no leak: what an allocator keeps, caches that have a size.
_MOST_GROWTH_KIB = 24 << 10
_WARM = 0.25
_LEAKS = re.compile(
    rb'Traceback|File "|site-packages|object at 0x|\.py\b|google\.protobuf\.(?:json_format|message)|aiomysql'
)
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)")
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


@dataclass(slots=True)
class Report:
    """What came back."""

    requests: int = 0
    seconds: float = 0.0
    codes: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    growth_kib: int = 0

    def add(self, sent: bytes, problem: str) -> None:
        """Note something that must not be."""
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(f"{problem}: {sent!r}"[:2000])


async def fuzz(folder: Path, *, requests: int, seed: int) -> Report:
    """Send so many requests, the same for the same seed."""
    report = Report()
    descriptor_set = compile_probe(folder)
    async with serving(descriptor_set) as probe:
        shim = Shim(folder / "shim", descriptor_set, SERVICE, probe.address)
        await asyncio.to_thread(shim.start)
        try:
            await _run(shim, report, requests=requests, rng=random.Random(seed))  # noqa: S311 - to be repeatable
        finally:
            await asyncio.to_thread(shim.remove)
    return report


async def _run(shim: Shim, report: Report, *, requests: int, rng: random.Random) -> None:
    started = time.monotonic()
    right = seeds()
    warm = int(requests * _WARM)
    await _send_all(shim.port, report, [mutated(rng.choice(right), rng) for _ in range(warm)])
    before_kib = shim.memory_kib
    left = requests - warm
    while left > 0:
        part = min(left, 5_000)
        await _send_all(shim.port, report, [mutated(rng.choice(right), rng) for _ in range(part)])
        left -= part
    report.growth_kib = shim.memory_kib - before_kib
    report.seconds = time.monotonic() - started
    if report.growth_kib > _MOST_GROWTH_KIB:
        report.problems.append(f"memory grew by {report.growth_kib} KiB in the last {1 - _WARM:.0%} of the requests")
    at = shim.log.find("request failed")
    if at >= 0:
        report.problems.append(f"the log tells of something that nobody foresaw: {shim.log[at : at + 3000]}")
    whole = request(b"GET", b"/v1/things/mine")
    answer = await _answer(shim.port, whole)
    if not answer.startswith(b"HTTP/1.1 200 "):
        report.add(whole, f"is not served any more but answered {answer[:200]!r}")


async def _send_all(port: int, report: Report, spoilt: list[bytes]) -> None:
    waiting = iter(spoilt)

    async def lane() -> None:
        for sent in waiting:
            _judge(report, sent, await _answer(port, sent))

    await asyncio.gather(*(lane() for _ in range(_AT_ONCE)))


async def _answer(port: int, sent: bytes) -> bytes:
    """Everything that comes back on a connection of its own until nothing does any more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = bytearray()
    try:
        writer.write(sent)
        async with asyncio.timeout(_PATIENCE_S):
            while len(answer) < _MOST_ANSWER and not _is_whole(answer):
                if not (more := await reader.read(1 << 16)):
                    break
                answer += more
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.transport.abort()
    return bytes(answer)


def _is_whole(answer: bytearray) -> bool:
    head, end, body = bytes(answer).partition(b"\r\n\r\n")
    if not end:
        return False
    length = _LENGTH.search(head)
    return len(body) >= int(length[1]) if length else body.endswith(b"0\r\n\r\n")


def _judge(report: Report, sent: bytes, answer: bytes) -> None:
    report.requests += 1
    status = _STATUS.match(answer)
    if status is None:
        report.codes["none"] += 1
        if answer:
            report.add(sent, f"is no HTTP: {answer[:200]!r}")
        return
    code = int(status[1])
    report.codes[str(code)] += 1
    if code >= 500 and not (code == 504 and b"grpc-timeout" in sent.lower()):
        report.add(sent, f"was answered {answer[:500]!r}")
    # What is echoed may hold anything; a refusal names fields, and shows nothing of us.
    if code >= 400 and _LEAKS.search(answer) and not _LEAKS.search(sent):
        report.add(sent, f"shows what is inside: {answer[:500]!r}")
    if code >= 400 and not sent.startswith(b"HEAD"):
        _judge_error(report, sent, code, answer)


def _judge_error(report: Report, sent: bytes, code: int, answer: bytes) -> None:
    head, _, rest = answer.partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    # What was not waited for to its end, and what has no body; behind it the answer to a second request may stand.
    if length is None or not 0 < int(length[1]) <= len(rest):
        return
    try:
        error = json.loads(rest[: int(length[1])])["error"]
        known = error["code"] == code and error["status"] and error["message"] and error["details"]
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        report.add(sent, f"has an error of another form: {answer[:500]!r}")
