"""`shopmesh config`: what the programs would read here, as lines that a shell could take, secrets masked."""

import re
import sys
from collections.abc import Iterator

from mesh.config import PREFIX, database_url, service_address
from shopmesh.parts import DATABASES, PARTS, MeshSettings, read_settings

_MASK = "***"
_PASSWORD = re.compile(r"(?<=://)([^:@/]*):[^@]*@")


def main() -> int:
    """Print and answer 0. Raises ConfigError when something is wrong."""
    sys.stdout.writelines(f"{name}={value}\n" for name, value in effective(read_settings()))
    return 0


def effective(settings: MeshSettings) -> Iterator[tuple[str, str]]:
    """Every setting of every program by its variable's name, in alphabetical order, then addresses and databases."""
    values: dict[str, object] = {}
    for kind in settings.by_kind.values():
        values |= {name: getattr(kind, name) for name in type(kind).model_fields if name != "per_service"}
    for name in sorted(values):
        yield f"{PREFIX}{name.upper()}", _shown(name, values[name])
    for part in PARTS:
        yield f"{PREFIX}{part.name.upper()}_ADDR", service_address(settings.common, part.name)
    for name in DATABASES:
        yield f"{PREFIX}{name.upper()}_DB_URL", database_url(settings.common, name).render_as_string()


def _shown(name: str, value: object) -> str:
    if value is None or value == ():
        return ""
    if "secret" in name or "api_key" in name:
        return _MASK
    if isinstance(value, bool):
        return str(int(value))
    return _PASSWORD.sub(rf"\1:{_MASK}@", str(value))
