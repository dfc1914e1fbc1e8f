"""The journal's file: what is written is read back, whatever became of the writer."""

import json
from pathlib import Path

import pytest

from shopmesh.audit.books import UnreadableError
from shopmesh.audit.journal import CART, READ, Entry, Journal, read_journal

_CART = Entry(kind=CART, customer="customer-1", cart_id="c", cart_version=2, items={"TEA": 1})


def test_entries_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    with Journal(tmp_path / "new" / "journal.jsonl") as journal:
        journal.write(_CART)
        journal.write(Entry(kind=READ, customer="customer-2", order_id="o", total_minor=5))
    entries = list(read_journal(journal.path))
    assert [entry.customer for entry in entries] == ["customer-1", "customer-2"]
    assert entries[0].items == {"TEA": 1}
    assert entries[0].time < entries[1].time


def test_an_entry_can_be_read_while_the_journal_is_being_written(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        journal.write(_CART)
        assert [entry.cart_id for entry in read_journal(journal.path)] == ["c"]


def test_members_at_their_defaults_are_left_out(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        journal.write(_CART)
    members = json.loads(journal.path.read_text())
    assert members.keys() == {"kind", "customer", "time", "cart_id", "cart_version", "items"}


def test_a_last_line_that_was_cut_short_is_passed_over(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        journal.write(_CART)
        journal.write(_CART)
    journal.path.write_text(journal.path.read_text()[:-5])
    assert len(list(read_journal(journal.path))) == 1


@pytest.mark.parametrize("line", ["not json", '{"kind": "cart"}', '{"kind": "cart", "customer": "c", "cost": 1}', "[]"])
def test_what_is_not_a_journal_is_refused_with_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(UnreadableError, match=r"journal\.jsonl:1"):
        list(read_journal(path))
