"""Run the cart service alone: `python -m cart_service`."""

import sys
from importlib.resources import files

from cart_service.app import build, migrate
from cart_service.config import CartSettings
from mesh.program import main

sys.exit(main(CartSettings, build, migrate, service_config=files("shop").joinpath("service_config.json").read_text()))
