"""What `kubectl apply -k` would send, rendered by a real kubectl."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
# The first kubectl whose kustomize lets `resources` name folders.
_NAMES_FOLDERS = (1, 21)


def render(folder: str, scratch: Path) -> list[dict[str, Any]]:
    """Every object of a kustomization such as "k8s/base". `scratch` is an empty folder that may be written to."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise FileNotFoundError("kubectl is missing, and the tests render with a real one: make test installs it")
    tree = ROOT
    if _version(kubectl) < _NAMES_FOLDERS:
        tree = _for_old_kustomize(scratch)
    done = subprocess.run([kubectl, "kustomize", tree / folder], check=True, capture_output=True, text=True)
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def _version(kubectl: str) -> tuple[int, int]:
    command = [kubectl, "version", "--client", "--output=json"]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    version = json.loads(answer)["clientVersion"]
    return int(version["major"]), int(version["minor"].rstrip("+"))


def _for_old_kustomize(scratch: Path) -> Path:
    # Debian 12's kubectl carries kustomize 2.0, which wants folders listed as `bases`; all else it reads alike.
    shutil.copytree(ROOT / "k8s", scratch / "k8s")
    for path in (scratch / "k8s").rglob("kustomization.yaml"):
        content = yaml.safe_load(path.read_text())
        resources = content.pop("resources", [])
        content["bases"] = [name for name in resources if (path.parent / name).is_dir()]
        content["resources"] = [name for name in resources if name not in content["bases"]]
        path.write_text(yaml.safe_dump(content))
    return scratch
