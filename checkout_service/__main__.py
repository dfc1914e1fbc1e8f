"""Run the checkout service alone: python -m checkout_service."""

import sys
from importlib.resources import files

from checkout_service.app import build, migrate
from checkout_service.config import CheckoutSettings
from mesh.program import main

if __name__ == "__main__":
    config = files("shop").joinpath("service_config.json").read_text()
    sys.exit(main(CheckoutSettings, build, migrate, service_config=config))
