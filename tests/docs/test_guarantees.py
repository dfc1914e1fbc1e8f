"""Every scenario of docs/guarantees.md has a test that names it, and every name in a test is one of that page."""

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text()
SCENARIOS = re.findall(r"^\| `([a-z0-9-]+)` \|", PAGE, re.MULTILINE)


@cache
def survivors() -> dict[str, list[str]]:
    """The tests that bear the marker `survives`, as `file::test`, by scenario."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for test, scenario in marked(ast.parse(path.read_text())):
            found[scenario].append(f"{path.relative_to(ROOT)}::{test}")
    return dict(found)


def marked(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Each test function of a module with each scenario that its own marker names."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            for decorator in node.decorator_list:
                yield from ((node.name, scenario) for scenario in scenarios_in(decorator))


def scenarios_in(decorator: ast.expr) -> Iterator[str]:
    """The names in `pytest.mark.survives("name", ...)`, wherever it stands in a decorator."""
    for call in ast.walk(decorator):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "survives":
            for name in call.args:
                assert isinstance(name, ast.Constant), "a scenario is named by a literal"
                yield str(name.value)


def test_every_scenario_stands_on_the_page_once() -> None:
    assert [name for name, times in Counter(SCENARIOS).items() if times > 1] == []
    assert len(SCENARIOS) > 50


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_scenario_has_a_test_that_names_it(scenario: str) -> None:
    assert survivors().get(scenario)


def test_every_name_in_a_test_is_a_scenario_of_the_page() -> None:
    assert {name: tests for name, tests in survivors().items() if name not in SCENARIOS} == {}


def test_every_invariant_is_promised() -> None:
    assert re.findall(r"^\| (I\d+) \|", PAGE, re.MULTILINE) == [f"I{number}" for number in range(1, 12)]
