"""Generate the packages policy/ and shop/ from protos/, or with --check say whether they have drifted.

Beside the code go service_config.json and descriptor_set.binpb (all files with their imports and comments), so that an
installed distribution carries what channels and the gateway read.
"""

import filecmp
import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "protos"
PACKAGES = ("policy", "shop")


def main() -> int:
    """Write the packages in place, or compare them with --check; 0 when all is well."""
    check = sys.argv[1:] == ["--check"]
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch)
        generate(target)
        if check:
            return report(list(drifted(target)))
        for package in PACKAGES:
            shutil.rmtree(ROOT / package, ignore_errors=True)
            shutil.copytree(target / package, ROOT / package)
    return 0


def generate(target: Path) -> None:
    """Run protoc over every file of protos/ into `target` and make the folders packages."""
    files = sorted(str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.proto"))
    # The mypy plug-ins come from the same environment as the running interpreter.
    scripts = Path(sys.executable).parent
    arguments = [
        "protoc",
        *(f"-I{folder}" for folder in include_folders()),
        f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
        f"--python_out={target}",
        f"--grpc_python_out={target}",
        f"--mypy_out=quiet:{target}",
        f"--mypy_grpc_out=quiet:{target}",
        "--include_imports",
        "--include_source_info",
        f"--descriptor_set_out={target / 'descriptor_set.binpb'}",
        *files,
    ]
    if protoc.main(arguments) != 0:
        sys.exit("protoc failed")
    for package in PACKAGES:
        for folder in [target / package, *(target / package).rglob("*/")]:
            (folder / "__init__.py").touch()
    shutil.copy(SOURCE / "service_config.json", target / "shop" / "service_config.json")
    shutil.move(target / "descriptor_set.binpb", target / "shop" / "descriptor_set.binpb")


def include_folders() -> list[Path]:
    """Where protoc finds our files, google/protobuf and google/api, in this order."""
    api = find_spec("google.api")
    tools = find_spec("grpc_tools")
    if api is None or not api.submodule_search_locations or tools is None or tools.origin is None:
        sys.exit("googleapis-common-protos and grpcio-tools are needed: make setup")
    return [SOURCE, Path(next(iter(api.submodule_search_locations))).parents[1], Path(tools.origin).parent / "_proto"]


def drifted(target: Path) -> list[str]:
    """Name each generated file that differs from what stands in the tree, is missing there or should not be."""
    names: set[str] = set()
    for package in PACKAGES:
        for base in (target, ROOT):
            paths = (path for path in (base / package).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
            names.update(str(path.relative_to(base)) for path in paths)
    return sorted(name for name in names if not same(target / name, ROOT / name))


def same(one: Path, other: Path) -> bool:
    """Tell whether both files exist and hold the same bytes."""
    return one.is_file() and other.is_file() and filecmp.cmp(one, other, shallow=False)


def report(names: list[str]) -> int:
    """Say which files have drifted and what to do about it."""
    for name in names:
        print(f"drifted from protos/: {name}", file=sys.stderr)
    if names:
        print("run: make protos", file=sys.stderr)
    return 1 if names else 0


if __name__ == "__main__":
    sys.exit(main())
