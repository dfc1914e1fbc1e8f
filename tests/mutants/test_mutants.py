"""Every planted bug still finds the code that it changes, and does change it into code."""

import ast
from pathlib import Path

import pytest

from tests.mutants.__main__ import ROOT, apply
from tests.mutants.mutations import MUTATIONS, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_bug_can_be_planted(mutation: Mutation, tmp_path: Path) -> None:
    paths = {edit.path for edit in mutation.edits}
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text((ROOT / path).read_text())

    apply(mutation, tmp_path)

    for path in paths:
        changed = (tmp_path / path).read_text()
        assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse((ROOT / path).read_text()))


def test_there_are_enough_of_them() -> None:
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS) >= 20
