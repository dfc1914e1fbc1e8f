"""The contract's time-outs and retries: gRPC's service config, read so that its time-outs hold to the second.

gRPC's core takes time-outs from the config by itself, but ends such calls one to two seconds early (grpc/grpc issue
34547). So the core is given the config without them, and whoever makes a call asks here for its time-out.
"""

import json
from typing import Any


class ServiceConfig:
    """One service config, from its JSON (grpc.service_config.ServiceConfig). Raises ValueError for no JSON object."""

    def __init__(self, text: str) -> None:
        config = json.loads(text)
        if not isinstance(config, dict):
            raise ValueError("a service config must be a JSON object")  # noqa: TRY004 - wrong text, not a wrong type
        self._methods: list[dict[str, Any]] = config.get("methodConfig", [])
        self._config = config
        self._timeouts = {
            _path(name): float(method["timeout"].removesuffix("s")) if "timeout" in method else None
            for method in self._methods
            for name in method["name"]
        }

    @property
    def for_core(self) -> str:
        """The config as gRPC's core shall have it: all but the time-outs."""
        methods = [{key: value for key, value in method.items() if key != "timeout"} for method in self._methods]
        return json.dumps({**self._config, "methodConfig": methods})

    def timeout_s(self, path: str) -> float | None:
        """The time-out of a method, by its path such as /pkg.Service/Method; None without one.

        The most specific entry counts, even one that sets no time-out: the method's, the service's, everybody's.
        """
        for name in (path, path.rpartition("/")[0] + "/", "/"):
            if name in self._timeouts:
                return self._timeouts[name]
        return None


def _path(name: dict[str, str]) -> str:
    service = f"/{name['service']}" if "service" in name else ""
    return f"{service}/{name.get('method', '')}"
