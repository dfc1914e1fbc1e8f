"""What a client likes, and how much: the lists of Accept and its kin (RFC 9110, section 12.4.2)."""

from __future__ import annotations

from collections.abc import Iterator


def weighed(header: str) -> Iterator[tuple[str, float]]:
    """The names of such a list in lower case, each with its weight; 0 for what is not wanted, or has no good weight."""
    for one in header.split(","):
        name, *parameters = (part.strip().lower() for part in one.split(";"))
        weight = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        try:
            yield name, float(weight)
        except ValueError:
            yield name, 0.0
