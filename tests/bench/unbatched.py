"""`shopmesh serve inventory_service` with batches of one: the same code, but whatever waits is taken one by one."""

from typing import Any, cast

from mesh.batch import Batcher
from mesh.db import POOL_SIZE
from shopmesh import serve


def main() -> int:
    """Run until SIGTERM and answer the exit code."""
    # Of this process alone. There is no setting for it: nobody but the bench would want one.
    cast("Any", Batcher.__init__).__kwdefaults__.update(max_items=1, lanes=POOL_SIZE)
    return serve.main("inventory_service")
