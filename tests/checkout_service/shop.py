"""Inventory, cart and checkout as programs of their own on real gRPC, each of which a test may stop and start again."""

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import grpc
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.empty_pb2 import Empty
from jwt.algorithms import OKPAlgorithm

import cart_service.app
import checkout_service.app
import inventory_service.app
from cart_service.config import CartSettings
from checkout_service.config import CheckoutSettings
from inventory_service.config import InventorySettings
from mesh import status
from mesh.auth import ALGORITHM, AUDIENCE, ServiceCredential
from mesh.channel import Calls, open_channel
from mesh.config import Settings, database_url
from mesh.db import Database, open_database
from mesh.program import Program, open_kit
from tests.support.servers import free_port

T = TypeVar("T")

SERVICE_CONFIG = resources.files("shop").joinpath("service_config.json").read_text()
SECRET = "s" * 32
WEBHOOK_SECRET = "between-provider-and-shop"
SERVICES = ("inventory", "cart", "checkout")
_KINDS: Mapping[str, tuple[type[Settings], ModuleType]] = {
    "inventory": (InventorySettings, inventory_service.app),
    "cart": (CartSettings, cart_service.app),
    "checkout": (CheckoutSettings, checkout_service.app),
}


class Shop:
    """The three services and what stands in for identity: a server of the keys with which `token` signs."""

    def __init__(self, folder: Path, databases: Mapping[str, str], *, redis_url: str = "", **checkout: Any) -> None:
        self.ports = {name: free_port() for name in ("identity", *SERVICES)}
        self.addresses = {f"SHOP_{name.upper()}_ADDR": f"127.0.0.1:{port}" for name, port in self.ports.items()}
        self.databases: dict[str, Database] = {}
        self.channels: dict[str, grpc.aio.Channel] = {}
        self._common: dict[str, Any] = {
            "data_dir": folder,
            "service_secret": SECRET,
            "redis_url": redis_url or None,
            "drain_s": 0.2,
        }
        self._database_urls = {f"SHOP_{name.upper()}_DB_URL": url for name, url in databases.items()}
        self._own: dict[str, dict[str, Any]] = {
            "inventory": {"product_cache_s": 0},
            "cart": {},
            "checkout": {"webhook_secrets": f"{WEBHOOK_SECRET},an-older-one", **checkout},
        }
        self._programs: dict[str, Program] = {}
        self._signer = Ed25519PrivateKey.generate()
        self._stack = contextlib.AsyncExitStack()
        self.calls = Calls(ServiceCredential("tests", SECRET))

    async def open(self, *, without: tuple[str, ...] = ()) -> None:
        """Migrate, serve the keys, start the services but for those a test runs itself, connect."""
        self._stack.push_async_callback(self._stop_all)
        for name in SERVICES:
            await _KINDS[name][1].migrate(self.settings(name))
        for name in ("inventory", "checkout", "psp"):
            database = await open_database(database_url(self.settings("checkout"), name))
            self._stack.push_async_callback(database.close)
            self.databases[name] = database
        await self._serve_keys()
        for name in SERVICES:
            self._connect(name)
            if name not in without:
                await self.start(name)

    async def close(self) -> None:
        """Stop everything."""
        await self._stack.aclose()

    def settings(self, name: str) -> Settings:
        """What a service is told."""
        per_service = self.addresses | self._database_urls
        return _KINDS[name][0](grpc_port=self.ports[name], per_service=per_service, **self._common, **self._own[name])

    def environment(self, port: int) -> dict[str, str]:
        """The same for checkout as a process on `port`."""
        told = {name: str(value) for name, value in (self._common | self._own["checkout"]).items() if value is not None}
        own = {f"SHOP_{name.upper()}": value for name, value in told.items()} | self._database_urls
        return own | self.addresses | {"SHOP_GRPC_PORT": str(port), "SHOP_CHECKOUT_ADDR": f"127.0.0.1:{port}"}

    async def start(self, name: str) -> None:
        """Start a service on its port; tests reach it when this returns."""
        settings = self.settings(name)
        self._programs[name] = Program(settings, open_kit(settings, SERVICE_CONFIG))
        build: Any = partial(_KINDS[name][1].build, settings)
        await self._programs[name].start([build])
        await asyncio.wait_for(self.channels[name].channel_ready(), 10)

    async def stop(self, name: str) -> None:
        """Stop a service; calls under way end soon."""
        await self._programs.pop(name).stop()

    def token(self, subject: str, role: str = "customer") -> str:
        """A token as identity would sign it."""
        claims = {"aud": AUDIENCE, "sub": subject, "role": role, "exp": int(time.time()) + 600}
        return jwt.encode(claims, self._signer, algorithm=ALGORITHM, headers={"kid": "tests"})

    def _connect(self, name: str) -> None:
        self.channels[name] = open_channel(f"127.0.0.1:{self.ports[name]}", SERVICE_CONFIG)
        self._stack.push_async_callback(self.channels[name].close)

    async def _stop_all(self) -> None:
        for name in reversed(SERVICES):
            if name in self._programs:
                await self.stop(name)

    async def _serve_keys(self) -> None:
        public = OKPAlgorithm.to_jwk(self._signer.public_key(), as_dict=True)
        keys = json.dumps({"keys": [{**public, "kid": "tests", "alg": ALGORITHM, "use": "sig"}]}).encode()

        async def get_keys(_: Empty, __: grpc.aio.ServicerContext[Any, Any]) -> HttpBody:
            return HttpBody(content_type="application/json", data=keys)

        handler: Any = grpc.unary_unary_rpc_method_handler(
            get_keys,
            request_deserializer=Empty.FromString,
            response_serializer=HttpBody.SerializeToString,
        )
        server = grpc.aio.server()
        handlers = {"GetKeys": handler}
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("shop.identity.v1.IdentityService", handlers),)
        )
        server.add_insecure_port(f"127.0.0.1:{self.ports['identity']}")
        await server.start()
        self._stack.push_async_callback(server.stop, None)


@contextlib.asynccontextmanager
async def running_shop(shop: Shop, *, without: tuple[str, ...] = ()) -> AsyncIterator[Shop]:
    """The shop, open."""
    try:
        await shop.open(without=without)
        yield shop
    finally:
        await shop.close()


def database_names(server_url: str) -> dict[str, str]:
    """The URLs of databases on a server that nobody else uses, by service."""
    prefix = f"checkout_{uuid.uuid4().hex[:12]}"
    return {name: f"{server_url}/{prefix}_{name}" for name in ("inventory", "cart", "checkout", "psp")}


async def answered(call: Awaitable[T]) -> T:
    """The answer of a call; its failure as ours."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise status.from_rpc_error(error) from error


async def until(look: Callable[[], Awaitable[T]], *, within_s: float = 20.0) -> T:
    """Look again and again until the answer is true, and answer it."""
    deadline = time.monotonic() + within_s
    while not (seen := await look()):
        assert time.monotonic() < deadline, f"it did not come about: {look}"
        await asyncio.sleep(0.02)
    return seen
