from typing import Any

import pytest

from tests.support.kustomize import render

Manifest = dict[str, Any]


@pytest.fixture(scope="module", params=["k8s/base", "k8s/overlays/local"])
def manifests(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    """All objects of one kustomization; each test runs on the base and on the overlay."""
    return render(request.param, tmp_path_factory.mktemp("kustomize"))


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    """All objects of the overlay that a person applies."""
    return render("k8s/overlays/local", tmp_path_factory.mktemp("kustomize"))
