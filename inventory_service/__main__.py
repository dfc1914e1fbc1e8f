"""Run the inventory service alone: `python -m inventory_service`."""

import sys
from importlib import resources

from inventory_service.app import build, migrate
from inventory_service.config import InventorySettings
from mesh.program import main

if __name__ == "__main__":
    service_config = resources.files("shop").joinpath("service_config.json").read_text()
    sys.exit(main(InventorySettings, build, migrate, service_config=service_config))
