"""Logs: one JSON object a line on stderr, or colours on a terminal. Ids that are capabilities are masked."""

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog
from structlog.typing import EventDict, WrappedLogger

# Knowing one of these is owning what it names (a guest's cart or order), so logs show only its end.
_CAPABILITIES = ("cart_id", "order_id", "saga_id", "reservation_id")
# A time ends in Z.
_AS_OTHERS = orjson.OPT_UTC_Z
# For so long, lines of requests wait for others to be written with.
_BUNDLED_S = 0.05
# How grpc.aio's error begins when an answer was on its way and the call ended, as by a client that gives up. One that
# could not be begun to be sent is told otherwise, and matters.
_ANSWER_TO_NOBODY = 'Failed "execute_batch"'
_NEVER = ("password", "payment_token", "authorization", "refresh_token", "access_token")


def mask(identifier: str) -> str:
    """The end of an id: enough to find it with the id at hand, not enough to use it."""
    return f"..{identifier[-6:]}" if len(identifier) > 6 else "..."  # noqa: PLR2004 - the masked length


def access_lines(name: str) -> Callable[[Mapping[str, object]], None] | None:
    """What writes a line of a server's requests by its fields, which hold no secret, in half the time of a logger.

    The line is the one of a logger of this name at INFO. None on a terminal, where the logger shall write it.
    """
    return None if sys.stderr.isatty() else _AccessLines(name).add


class _AccessLines(logging.Handler):
    """Writes the lines of a moment in one go; at the end of the program those of its last.

    It is a handler, of no logger, because logging knows of the end, whatever it is.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self._lines: list[str] = []
        # Who will write them.
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, fields: Mapping[str, object]) -> None:
        """Write the line soon; at once if no loop runs."""
        at = datetime.now(UTC)
        line = {"event": "request", **fields, "level": "info", "logger": self._name, "timestamp": at}
        # What orjson answers has room for much more: kept, many would wear out the processor's caches.
        self._lines.append(orjson.dumps(line, option=_AS_OTHERS).decode())
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
            return
        if loop is not self._loop:
            self._loop = loop
            loop.call_later(_BUNDLED_S, self.flush)

    def flush(self) -> None:
        """Write what waits."""
        lines, self._lines, self._loop = self._lines, [], None
        if lines:
            # Whoever reads it may be gone.
            with contextlib.suppress(OSError):
                sys.stderr.write("\n".join([*lines, ""]))
                sys.stderr.flush()


def set_up(level: str) -> None:
    """Send all logging, ours and libraries', through structlog to stderr. Call once, at the start of a program."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_secrets,
    ]
    renderer: list[Any] = (
        [structlog.dev.ConsoleRenderer()]
        if sys.stderr.isatty()
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Nobody reads them, and every record would look them up.
    logging._srcfile = None  # noqa: SLF001 - as logging's documentation says
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    for noisy in ("aiosqlite", "asyncio", "alembic", "httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("grpc._cython.cygrpc").addFilter(_matters)


def _matters(record: logging.LogRecord) -> bool:
    return record.exc_info is None or not str(record.exc_info[1]).startswith(_ANSWER_TO_NOBODY)


def _without_secrets(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    for name in _CAPABILITIES:
        if isinstance(event.get(name), str):
            event[name] = mask(event[name])
    for name in _NEVER:
        if name in event:
            event[name] = "***"
    return event
