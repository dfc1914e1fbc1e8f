"""What the mesh consists of: its services, and the settings that they read."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib import resources
from typing import Any

from cart_service.config import CartSettings
from checkout_service.config import CheckoutSettings
from identity_service.config import IdentitySettings
from inventory_service.config import InventorySettings
from mesh.config import Settings, load_all
from mesh.program import Build


@dataclass(frozen=True, slots=True)
class Part:
    """One service: the name that addresses and databases bear, its package, the settings it reads."""

    name: str
    package: str
    kind: type[Settings]

    @property
    def app(self) -> Any:
        """The module that constructs it, imported on first use."""
        return importlib.import_module(f"{self.package}.app")

    def build(self, settings: "MeshSettings") -> Build:
        """What makes the service from a kit."""
        build: Build = partial(self.app.build, settings.of(self))
        return build

    async def migrate(self, settings: "MeshSettings") -> None:
        """Bring its databases to the newest schema. Idempotent. Raises Failure UNAVAILABLE."""
        await self.app.migrate(settings.of(self))


PARTS = (
    Part("identity", "identity_service", IdentitySettings),
    Part("inventory", "inventory_service", InventorySettings),
    Part("cart", "cart_service", CartSettings),
    Part("checkout", "checkout_service", CheckoutSettings),
)
# One environment may serve all programs, so each has to know the names that the others read.
KINDS: tuple[type[Settings], ...] = (Settings, *(part.kind for part in PARTS))
# Every database there is: one for each service, and the simulated payment provider's book.
DATABASES = (*(part.name for part in PARTS), "psp")


@dataclass(frozen=True, slots=True)
class MeshSettings:
    """What all programs of the mesh are told, read from one environment."""

    common: Settings
    by_kind: Mapping[type[Settings], Settings]

    def of(self, part: Part) -> Settings:
        """The settings of one service."""
        return self.by_kind[part.kind]

    def changed(self, **values: object) -> "MeshSettings":
        """The same with some common values replaced, for every program."""
        by_kind = {kind: settings.model_copy(update=values) for kind, settings in self.by_kind.items()}
        return MeshSettings(by_kind[Settings], by_kind)

    @property
    def demo(self) -> bool:
        """Whether demo data belongs in the shop."""
        return self.common.embedded if self.common.demo is None else self.common.demo


def read_settings(*, apart: bool = False) -> MeshSettings:
    """Read the environment; `apart` for a program that is one of many, see `mesh.config.load`.

    Raises ConfigError with every problem of every program, each named once.
    """
    by_kind = dict(zip(KINDS, load_all(KINDS, services=DATABASES, apart=apart), strict=True))
    return MeshSettings(by_kind[Settings], by_kind)


def service_config() -> str:
    """Time-outs and retries of every method, from the contract."""
    return resources.files("shop").joinpath("service_config.json").read_text()
