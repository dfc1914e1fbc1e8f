"""Run the identity service alone: `python -m identity_service`."""

import sys
from importlib import resources

from identity_service.app import build, migrate
from identity_service.config import IdentitySettings
from mesh.program import main

if __name__ == "__main__":
    service_config = resources.files("shop").joinpath("service_config.json").read_text()
    sys.exit(main(IdentitySettings, build, migrate, service_config=service_config))
