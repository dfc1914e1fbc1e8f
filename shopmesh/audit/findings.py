"""What is looked for, and what was found."""

import enum
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field


class Invariant(enum.StrEnum):
    """The promises that databases can prove or refute, by their numbers in the design."""

    AVAILABLE = "I1"
    COUNTERS = "I2"
    MONEY = "I3"
    RESTING = "I4"
    ACKNOWLEDGED = "I5"
    KEYS = "I6"
    ENDING = "I7"
    EVENTS = "I8"
    EDGES = "I9"
    SOLD_OUT = "I10"


TITLES = {
    Invariant.AVAILABLE: "nothing is sold or held that is not there",
    Invariant.COUNTERS: "stock counters equal the ledger and the open holds",
    Invariant.MONEY: "amounts add up; captured at most once, the order's total",
    Invariant.RESTING: "paid orders are sold, captured and invoiced; others leave nothing behind",
    Invariant.ACKNOWLEDGED: "what was acknowledged is there",
    Invariant.KEYS: "one key, one order, one answer",
    Invariant.ENDING: "every saga ends or has an owner",
    Invariant.EVENTS: "every change of an order has one event, in order",
    Invariant.EDGES: "orders move along legal edges only",
    Invariant.SOLD_OUT: "sold out was only said when it was true",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One way in which a thing is wrong: `rule` names it for programs and never changes, `message` tells people."""

    rule: str
    message: str


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault of one thing: a SKU, an order, a key. A notice is worth an operator's look and breaks no promise."""

    invariant: Invariant
    subject: str
    fault: Fault
    is_notice: bool = False

    @property
    def identity(self) -> tuple[str, ...]:
        """What makes a finding the same when it is looked at again: not the numbers in its message."""
        return (self.invariant, self.subject, self.fault.rule)


@dataclass(slots=True)
class Report:
    """What an audit examined and what it found."""

    checked: Counter[Invariant] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    notices: list[Finding] = field(default_factory=list)
    # By check, what was found to be wrong.
    wrong: dict[str, set[str]] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """Whether nothing was found; notices do not count."""
        return not self.findings

    def add(self, check: str, found: list[Finding]) -> None:
        """Take what a check has found and still stands."""
        for finding in sorted(found, key=lambda one: one.identity):
            if finding.is_notice:
                self.notices.append(finding)
            else:
                self.findings.append(finding)
                self.wrong.setdefault(check, set()).add(finding.subject)

    def rows(self) -> Iterator[tuple[Invariant, int, int]]:
        """Every invariant that was looked at: how many things were examined, how many findings there are."""
        found = Counter(finding.invariant for finding in self.findings)
        for invariant in Invariant:
            if self.checked[invariant] or found[invariant]:
                yield invariant, self.checked[invariant], found[invariant]
