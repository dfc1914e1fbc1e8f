"""What is told of the requests to routes: series in the process's Prometheus registry, and one line of the log each.

Pages are not in it. A series is named by the route's template, never by a path, and by a known method, so that clients
cannot add any; and neither series nor lines show what a path holds, which may be an id that nobody else should know.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from prometheus_client import Counter, Histogram

ACCESS_LOG = "gateway.access"
"""The logger of the lines, at INFO. Each has its fields as the one argument, a mapping. See `tell_requests_by`."""
CLIENT_GONE = 499
"""Stands for the status of a request whose client left before the answer, as nginx counts it."""
UNMATCHED = "unmatched"
"""Stands for the template of a request that matches no route. No template looks like it: they begin with a slash."""

_LABELS = ("route", "method", "code")
_REQUESTS = Counter("http_server_requests_total", "Requests answered.", _LABELS)
_SECONDS = Histogram("http_server_request_seconds", "Time from a request's head to its answer.", _LABELS)
_METHODS = frozenset(("GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE", "CONNECT"))
_OTHER_METHOD = "_OTHER"
_LINE = "%(method)s %(route)s %(status)d %(ms)s ms %(request_id)s"

_access = logging.getLogger(ACCESS_LOG)


def _log(fields: Mapping[str, object]) -> None:
    _access.info(_LINE, fields)


_tell: Callable[[Mapping[str, object]], None] = _log


def tell_requests_by(tell: Callable[[Mapping[str, object]], None] | None) -> None:
    """Have the lines, by their fields, written by this instead of by their logger; again by that one if None.

    What handlers the logger has does not matter then, its level still does.
    """
    global _tell  # noqa: PLW0603 - as the logger, it is the process's
    _tell = tell or _log


def known_method(method: str) -> str:
    """The method, if it is one that HTTP knows."""
    return method if method in _METHODS else _OTHER_METHOD


class Meter:
    """Measures the requests of one route. Series are looked up once per method and status."""

    def __init__(self, template: str) -> None:
        self._template = template
        self._series: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

    @property
    def template(self) -> str:
        """Of the route, or UNMATCHED."""
        return self._template

    def note(self, method: str, code: int, *, started: float, ids: Mapping[str, str]) -> None:
        """Count a request that began at `started`, of time.perf_counter, and ends now, and log it with its ids."""
        method = known_method(method)
        took_s = time.perf_counter() - started
        requests, seconds = self._series.get((method, code)) or self._resolve(method, code)
        requests.inc()
        seconds.observe(took_s)
        if _access.isEnabledFor(logging.INFO):
            fields = {
                "method": method,
                "route": self._template,
                "status": code,
                "ms": round(took_s * 1000, 2),
                **ids,
            }
            _tell(fields)

    def _resolve(self, method: str, code: int) -> tuple[Counter, Histogram]:
        labels = (self._template, method, str(code))
        found = self._series[method, code] = _REQUESTS.labels(*labels), _SECONDS.labels(*labels)
        return found
