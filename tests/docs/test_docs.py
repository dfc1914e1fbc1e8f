"""The documentation tells what is so."""

import re
from pathlib import Path

import pytest

from docs import diagrams
from shopmesh.catalogue import FEW_SKUS
from shopmesh.cli import app
from shopmesh.parts import DATABASES, KINDS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
README = (ROOT / "README.md").read_text()


def test_what_is_drawn_from_the_code_is_up_to_date() -> None:
    assert diagrams.main(["--check"]) == 0


def test_every_part_that_can_be_generated_is_shown_somewhere() -> None:
    shown = "".join((ROOT / "docs" / page).read_text() for page in diagrams.PAGES)

    for name in diagrams.WRITERS:
        assert f"<!-- generated: {name} -->" in shown


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert link.startswith("https://") or (page.parent / link).exists(), link


def test_the_readme_names_the_scarce_products() -> None:
    for sku in FEW_SKUS:
        assert f"`{sku}`" in README


def test_the_readme_names_only_settings_that_exist() -> None:
    fields = {f"SHOP_{name}".upper() for kind in KINDS for name in kind.model_fields}
    services = {f"SHOP_{name.upper()}_" for name in DATABASES}

    for name in re.findall(r"SHOP_[A-Z_]+[A-Z]", README):
        assert name in fields or any(name.startswith(service) for service in services), name


def test_the_readme_names_every_command() -> None:
    for command in app.registered_commands:
        assert command.callback is not None
        assert f"shopmesh {command.callback.__name__}" in README
