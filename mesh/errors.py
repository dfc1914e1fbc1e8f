"""The one error that crosses every boundary, and the few that never leave the process.

A use case raises `Failure` where the fact is known. The server interceptor turns it into a gRPC status, a client turns
that status back into an equal `Failure`, the gateway shows it as JSON (AIP-193). Nothing else reaches a caller.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

_NAMED_IN_MESSAGE = 5


class Kind(enum.IntEnum):
    """The canonical codes of google/rpc/code.proto that we answer with."""

    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field of a request that breaks a rule, by its path in the request, such as `lines[2].quantity`."""

    field: str
    message: str


@dataclass(slots=True, eq=True)
class Failure(Exception):  # noqa: N818 - it is the outcome of a call, named so everywhere
    """What a call fails with, in words that may be shown to its caller.

    `reason` is UPPER_SNAKE and stable, for programs; `message` is a sentence for people; `metadata` holds the facts of
    the reason as strings. With `retry_after_s` the same call may succeed later.
    """

    kind: Kind
    reason: str
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    fields: tuple[FieldViolation, ...] = ()
    retry_after_s: float | None = None

    def __str__(self) -> str:
        return f"{self.kind.name} {self.reason}: {self.message}"

    def __hash__(self) -> int:
        return hash((self.kind, self.reason, self.message))


class PoisonError(Exception):
    """A transaction that can never succeed as it is: the database refused its data. Repeating it is useless."""


class ConflictError(PoisonError):
    """What stands in the database is not as the writes took it to be."""


class ConfigError(Exception):
    """Everything that is wrong with the configuration, one sentence each, for the person who starts the program."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def invalid(*violations: FieldViolation) -> Failure:
    """The failure for a request that breaks rules, naming every field that does; the sentence, the first few."""
    named = "; ".join(f"{violation.field}: {violation.message}" for violation in violations[:_NAMED_IN_MESSAGE])
    if len(violations) > _NAMED_IN_MESSAGE:
        named += f"; and {len(violations) - _NAMED_IN_MESSAGE} more"
    return Failure(Kind.INVALID_ARGUMENT, "INVALID_FIELDS", named, fields=violations)


def unavailable(reason: str, message: str, *, retry_after_s: float = 1.0) -> Failure:
    """The failure for something that is away now and expected back."""
    return Failure(Kind.UNAVAILABLE, reason, message, retry_after_s=retry_after_s)
