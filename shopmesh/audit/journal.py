"""The journal of an emulator's run: every answer that somebody was given, one JSON object a line, as it happened."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from shopmesh.audit.books import UnreadableError

ORDER = "order"
READ = "read"
INVOICE = "invoice"
CART = "cart"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One acknowledged answer.

    `kind` is ORDER (of PlaceOrder), READ (of GetOrder), INVOICE or CART (of any change of a cart); the members that a
    kind does not know are at their defaults and are left out of the file. States are named as they are stored.
    """

    kind: str
    # Which emulated customer it was given to, and when (UTC, ISO 8601).
    customer: str
    time: str = ""
    # ORDER: who asked, as in "customer:<id>" or "cart:<id>", with which key, and a digest of the bytes of the answer.
    caller: str = ""
    request_id: str = ""
    body_sha256: str = ""
    order_id: str = ""
    state: str = ""
    reason: str = ""
    total_minor: int = 0
    currency_code: str = ""
    invoice_number: str = ""
    cart_id: str = ""
    cart_version: int = 0
    # SKU -> quantity.
    items: Mapping[str, int] = field(default_factory=dict)

    @property
    def key_id(self) -> str:
        """The idempotency key as checkout stores it."""
        return f"{self.caller}/{self.request_id}"


class Journal:
    """Writes entries to a file as they come; each is with the operating system when `write` returns."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("w", encoding="utf-8")

    def write(self, entry: Entry) -> None:
        """Append one entry, stamped with the present time."""
        members = {
            member.name: value
            for member in fields(entry)
            if (value := getattr(entry, member.name)) or member.name == "kind"
        }
        members["time"] = datetime.now(UTC).isoformat()
        self._file.write(json.dumps(members, separators=(",", ":")) + "\n")
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def read_journal(path: Path) -> Iterator[Entry]:
    """The entries in their order. A last line that was cut short is passed over.

    Raises UnreadableError for a file that is not there or not a journal.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.endswith("\n"):
                    yield _entry(line, f"{path}:{number}")
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableError(f"The journal {path} cannot be read: {error}") from error


def _entry(line: str, where: str) -> Entry:
    try:
        return Entry(**json.loads(line))
    except (ValueError, TypeError) as error:
        raise UnreadableError(f"{where}: this is not an entry of a journal") from error
