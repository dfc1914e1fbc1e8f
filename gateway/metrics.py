"""What is measured of the requests to routes, in the process's Prometheus registry; pages are not measured.

A series is named by the route's template, never by a path, and by a known method, so clients cannot add series.
"""

from __future__ import annotations

import time

from prometheus_client import Counter, Histogram

CLIENT_GONE = 499
"""Stands for the status of a request whose client left before the answer, as nginx counts it."""
UNMATCHED = "unmatched"
"""Stands for the template of a request that matches no route. No template looks like it: they begin with a slash."""

_LABELS = ("route", "method", "code")
_REQUESTS = Counter("http_server_requests_total", "Requests answered.", _LABELS)
_SECONDS = Histogram("http_server_request_seconds", "Time from a request's head to its answer.", _LABELS)
_METHODS = frozenset(("GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE", "CONNECT"))
_OTHER_METHOD = "_OTHER"


class Meter:
    """Measures the requests of one route. Series are looked up once per method and status."""

    def __init__(self, template: str) -> None:
        self._template = template
        self._series: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

    def note(self, method: str, code: int, *, started: float) -> None:
        """Count a request that began at `started`, of time.perf_counter, and ends now."""
        if method not in _METHODS:
            method = _OTHER_METHOD
        requests, seconds = self._series.get((method, code)) or self._resolve(method, code)
        requests.inc()
        seconds.observe(time.perf_counter() - started)

    def _resolve(self, method: str, code: int) -> tuple[Counter, Histogram]:
        labels = (self._template, method, str(code))
        found = self._series[method, code] = _REQUESTS.labels(*labels), _SECONDS.labels(*labels)
        return found
