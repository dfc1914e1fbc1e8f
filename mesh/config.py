"""Configuration from SHOP_* variables: every problem is named at once, an unknown name is a problem too.

A service's config.py subclasses `Settings`; a field `cart_ttl_s` reads SHOP_CART_TTL_S. Programs call `load` once and
hand the frozen values on; nothing else reads the environment.
"""

import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from mesh.errors import ConfigError

PREFIX = "SHOP_"
_TESTS_ONLY = "SHOP_TEST_"
# Which services exist is not the kit's business, but what is asked of each is: its address and its databases.
_PER_SERVICE = re.compile(r"SHOP_(?!TEST_)[A-Z]+_(ADDR|DB_URL)")
_ADDRESS = re.compile(r"(dns:///)?([A-Za-z0-9._-]+|\[[0-9a-fA-F:]+\]):[0-9]{1,5}")
# Replicas where no name leads to all of them.
_ADDRESSES = re.compile(r"ipv4:[0-9.]+:[0-9]{1,5}(,[0-9.]+:[0-9]{1,5})*")
_REDIS = re.compile(r"(redis|rediss|unix)://.+")
_DRIVERS = {
    "mysql": "mysql+aiomysql",
    "mariadb": "mysql+aiomysql",
    "mysql+aiomysql": "mysql+aiomysql",
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
}

AnySettings = TypeVar("AnySettings", bound="Settings")


class Settings(BaseSettings):
    """What every program of the mesh is told."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", env_ignore_empty=True)

    bind: str = "127.0.0.1"
    grpc_port: int = Field(default=50051, ge=0, le=65535)
    http_port: int = Field(default=8080, ge=0, le=65535)
    # Where a program of services shows its metrics; 0 for nowhere. The gateway shows its own, and those of `up`.
    metrics_port: int = Field(default=0, ge=0, le=65535)
    data_dir: Path = Path(".data")
    db_url: str | None = None
    redis_url: str | None = None
    # By default the demo runs only in embedded mode; None means "not said".
    demo: bool | None = None
    # What services sign their credentials for each other with; made and kept in data_dir when not given.
    service_secret: str | None = Field(default=None, min_length=32)
    # The RPC that answers the keys which verify customers' tokens.
    keys_method: str = "/shop.identity.v1.IdentityService/GetKeys"
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")
    # How long calls under way may go on after SIGTERM.
    drain_s: float = Field(default=10.0, ge=0, le=300)

    # SHOP_<SERVICE>_ADDR and _DB_URL as found by `load`, by their full names.
    per_service: dict[str, str] = Field(default_factory=dict, validation_alias="per_service", repr=False)

    @property
    def embedded(self) -> bool:
        """Whether SQLite files under data_dir serve as databases, with nothing else to install."""
        return self.db_url is None


def load(kind: type[AnySettings], *, known: Sequence[type[Settings]] = (), apart: bool = False) -> AnySettings:
    """Read `kind` from the environment. `known` are the settings of other programs that may share it.

    A program that runs `apart` must be given the secret that it shares with the others, unless they share a data_dir.
    Raises ConfigError with every problem: wrong values, and SHOP_* names that nobody reads.
    """
    per_service = {name: value for name, value in os.environ.items() if _PER_SERVICE.fullmatch(name) and value}
    problems = _unknown_names(os.environ, (kind, *known)) + _wrong_urls(os.environ)
    if apart and os.environ.get("SHOP_DB_URL") and not os.environ.get("SHOP_SERVICE_SECRET"):
        problems.append("SHOP_SERVICE_SECRET: must be given, the same to all services, when they run apart")
    try:
        settings = kind(per_service=per_service)
    except ValidationError as error:
        problems += [_sentence(item["loc"], item["msg"]) for item in error.errors()]
        raise ConfigError(problems) from error
    if problems:
        raise ConfigError(problems)
    return settings


def load_all(kinds: Sequence[type[Settings]], *, services: Collection[str], apart: bool = False) -> list[Settings]:
    """Read each of `kinds`, for a program that is several at once or knows the others: see `load`.

    `services` are all that may have addresses and databases. Raises ConfigError, each problem named once.
    """
    found: list[Settings] = []
    problems = _unknown_services(os.environ, services)
    for kind in kinds:
        try:
            found.append(load(kind, known=kinds, apart=apart))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return found


def database_url(settings: Settings, service: str) -> URL:
    """The database of `service`: SHOP_<SERVICE>_DB_URL, else shop_<service> at SHOP_DB_URL, else a SQLite file."""
    own = settings.per_service.get(f"{PREFIX}{service.upper()}_DB_URL")
    if own:
        return _with_driver(make_url(own))
    if settings.db_url:
        return _with_driver(make_url(settings.db_url)).set(database=f"shop_{service}")
    return URL.create("sqlite+aiosqlite", database=str(settings.data_dir / f"{service}.db"))


def service_address(settings: Settings, service: str) -> str:
    """Where `service` is dialled: SHOP_<SERVICE>_ADDR, else this program's own gRPC port (all in one)."""
    return settings.per_service.get(f"{PREFIX}{service.upper()}_ADDR", f"127.0.0.1:{settings.grpc_port}")


def _unknown_names(environment: Mapping[str, str], kinds: Sequence[type[Settings]]) -> list[str]:
    fields = {f"{PREFIX}{name}".upper() for kind in kinds for name in kind.model_fields}
    return [
        f"{name}: no such setting"
        for name in sorted(environment)
        if name.startswith(PREFIX)
        and not name.startswith(_TESTS_ONLY)
        and name not in fields
        and not _PER_SERVICE.fullmatch(name)
    ]


def _unknown_services(environment: Mapping[str, str], services: Collection[str]) -> list[str]:
    known = {f"{PREFIX}{service.upper()}" for service in services}
    return [
        f"{name}: no such setting"
        for name in sorted(environment)
        if (match := _PER_SERVICE.fullmatch(name)) and name.removesuffix(f"_{match[1]}") not in known
    ]


def _sentence(location: tuple[int | str, ...], message: str) -> str:
    # pydantic names a field by its environment name or its own; people look for the former.
    name = str(location[0]).upper() if location else "SETTINGS"
    return f"{name if name.startswith(PREFIX) else PREFIX + name}: {message}"


def _wrong_urls(environment: Mapping[str, str]) -> list[str]:
    found = (_wrong_url(name, value) for name, value in sorted(environment.items()) if value)
    return [problem for problem in found if problem]


def _wrong_url(name: str, value: str) -> str | None:
    if name == "SHOP_REDIS_URL":
        return None if _REDIS.fullmatch(value) else f"{name}: must be a URL such as redis://host:6379/0"
    if name != "SHOP_DB_URL" and not _PER_SERVICE.fullmatch(name):
        return None
    if name.endswith("_ADDR"):
        is_one = _ADDRESS.fullmatch(value) or _ADDRESSES.fullmatch(value)
        return None if is_one else f"{name}: must be host:port, dns:///host:port or ipv4:address:port,address:port"
    try:
        _with_driver(make_url(value))
    except (ArgumentError, ValueError):
        return f"{name}: must be a URL such as mysql://user:password@host:3306"
    return None


def _with_driver(url: URL) -> URL:
    if url.drivername not in _DRIVERS:
        raise ValueError(url.drivername)
    return url.set(drivername=_DRIVERS[url.drivername])
