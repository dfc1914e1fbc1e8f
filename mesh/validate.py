"""Rules for what comes in. Each check notes a violation instead of raising, so one answer names every bad field."""

import re
import uuid

from mesh.errors import FieldViolation, invalid

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_ID_RULE = "must be 1 to 64 of the characters A-Z a-z 0-9 . _ -"


def is_id(value: str) -> bool:
    """Tell whether `value` is a lawful id, key or SKU."""
    return _ID.fullmatch(value) is not None


class Violations:
    """Collects what is wrong with one request; `raise_if_any` ends the checks."""

    def __init__(self) -> None:
        self._found: list[FieldViolation] = []

    def add(self, field: str, message: str) -> None:
        """Note that `field` breaks a rule."""
        self._found.append(FieldViolation(field, message))

    def identifier(self, field: str, value: str, *, optional: bool = False) -> None:
        """Ids, keys and SKUs are [A-Za-z0-9._-]{1,64}."""
        if not (is_id(value) or (optional and not value)):
            self.add(field, _ID_RULE)

    def uuid(self, field: str, value: str) -> None:
        """A UUID in its canonical form: 36 characters, lower case, with dashes (RFC 9562 section 4)."""
        try:
            canonical = str(uuid.UUID(value)) == value
        except ValueError:
            canonical = False
        if not canonical:
            self.add(field, "must be a lower-case UUID such as 3f0c1a52-5a0e-4c1b-9b67-0e4f6a2d9c11")

    def between(self, field: str, value: int, *, low: int, high: int) -> None:
        """A number within bounds, both included."""
        if not low <= value <= high:
            self.add(field, f"must be between {low} and {high}")

    def text(self, field: str, value: str, *, most: int, least: int = 0) -> None:
        """Text of `least` to `most` characters, none of them NUL, which databases disagree about."""
        if "\0" in value:
            self.add(field, "must not contain the character NUL")
        if not least <= len(value) <= most:
            bounds = f"{least} to {most}" if least else f"at most {most}"
            self.add(field, f"must have {bounds} characters")

    def count(self, field: str, number: int, *, most: int, least: int = 1) -> None:
        """A list of `least` to `most` members."""
        if not least <= number <= most:
            self.add(field, f"must have {least} to {most} members")

    def raise_if_any(self) -> None:
        """Raise INVALID_ARGUMENT naming every field noted, if any was."""
        if self._found:
            raise invalid(*self._found)
