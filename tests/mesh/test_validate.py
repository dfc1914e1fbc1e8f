import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import Failure, Kind
from mesh.validate import Violations, is_id


def named(violations: Violations) -> list[str]:
    """The fields that were noted."""
    try:
        violations.raise_if_any()
    except Failure as failure:
        return [violation.field for violation in failure.fields]
    return []


@given(st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True))
def test_ids_are_short_and_plain(value: str) -> None:
    assert is_id(value)


@pytest.mark.parametrize("value", ["", "a" * 65, "a b", "a/b", "a\n", "é", "\u0661", "a\0", "%41", "\u212a"])
def test_what_is_no_id_is_refused(value: str) -> None:
    violations = Violations()
    violations.identifier("sku", value)

    assert named(violations) == ["sku"]


def test_an_optional_id_may_be_empty_but_not_wrong() -> None:
    violations = Violations()
    violations.identifier("first", "", optional=True)
    violations.identifier("second", "no good", optional=True)

    assert named(violations) == ["second"]


@pytest.mark.parametrize(
    ("value", "lawful"),
    [
        ("3f0c1a52-5a0e-4c1b-9b67-0e4f6a2d9c11", True),
        ("00000000-0000-0000-0000-000000000000", True),
        ("3F0C1A52-5A0E-4C1B-9B67-0E4F6A2D9C11", False),
        ("3f0c1a525a0e4c1b9b670e4f6a2d9c11", False),
        ("{3f0c1a52-5a0e-4c1b-9b67-0e4f6a2d9c11}", False),
        ("urn:uuid:3f0c1a52-5a0e-4c1b-9b67-0e4f6a2d9c11", False),
        ("", False),
        ("nonsense", False),
    ],
)
def test_a_uuid_has_one_spelling(value: str, *, lawful: bool) -> None:
    violations = Violations()
    violations.uuid("cart_id", value)

    assert (named(violations) == []) is lawful


@pytest.mark.parametrize("value", [0, -1, 1000, 2**31, 2**63, -(2**63)])
def test_numbers_out_of_bounds_are_refused(value: int) -> None:
    violations = Violations()
    violations.between("quantity", value, low=1, high=999)

    assert named(violations) == ["quantity"]


def test_bounds_are_lawful_themselves() -> None:
    violations = Violations()
    for value in (1, 999):
        violations.between("quantity", value, low=1, high=999)
    for text in ("", "four"):
        violations.text("name", text, most=4)
    for number in (1, 3):
        violations.count("lines", number, most=3)

    assert named(violations) == []


def test_one_answer_names_every_field_in_the_order_of_the_checks() -> None:
    violations = Violations()
    violations.text("name", "fifth", most=4)
    violations.text("password", "short", least=8, most=9)
    violations.count("lines", 0, most=3)
    violations.count("items", 4, most=3)
    violations.add("own", "is wrong in its own way")

    assert named(violations) == ["name", "password", "lines", "items", "own"]


def test_what_breaks_rules_is_an_invalid_argument() -> None:
    violations = Violations()
    violations.add("own", "is wrong in its own way")

    with pytest.raises(Failure) as caught:
        violations.raise_if_any()

    assert (caught.value.kind, caught.value.reason) == (Kind.INVALID_ARGUMENT, "INVALID_FIELDS")
