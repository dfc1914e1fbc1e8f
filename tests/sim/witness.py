"""The witness: sees each saga move in the database, and whose connection moves it.

That a coordinator which was replaced moves nothing is promised twice, here and at the participants. So the damage of a
hole in one fence may never show in the books; the witness sees who climbs through.
"""

import sqlite3

# Temporary, so of this connection alone. A saga may be moved by who owns it, or by who takes it in the same breath.
_TRIGGERS = """
CREATE TEMP TRIGGER leads AFTER INSERT ON main.coordinators
BEGIN SELECT witness_leads(NEW.owner); END;
CREATE TEMP TRIGGER moves AFTER UPDATE OF state ON main.sagas WHEN NEW.state != OLD.state
BEGIN SELECT witness_moves(NEW.saga_id, OLD.state, NEW.state, OLD.owner, NEW.owner); END;
CREATE TEMP TRIGGER repeats AFTER UPDATE OF state ON main.sagas WHEN NEW.state = OLD.state
BEGIN SELECT witness_repeats(NEW.saga_id, NEW.state); END;
CREATE TEMP TRIGGER hands AFTER UPDATE OF owner ON main.sagas
WHEN NEW.owner NOT IN (OLD.owner, '', 'operator') AND NEW.epoch <= OLD.epoch
BEGIN SELECT witness_hands(NEW.saga_id, OLD.owner, NEW.owner); END;
"""


class Witness:
    """What is wrong with how sagas were moved; also by transactions that were rolled back: trying is enough."""

    def __init__(self) -> None:
        self.wrong: dict[str, None] = {}
        # Which life leads under which name.
        self._leaders: dict[str, str] = {}

    def watch(self, connection: sqlite3.Connection, node: str) -> None:
        """See what the connection of a node does to sagas."""

        def leads(owner: str) -> None:
            self._leaders[owner] = node

        def moves(saga_id: str, before: str, after: str, *owners: str) -> None:
            known = [self._leaders[owner] for owner in owners if owner in self._leaders]
            if known and node not in known:
                self.wrong[f"saga {saga_id} of {known[0]} is moved from {before} to {after} by {node}"] = None

        def hands(saga_id: str, *owners: str) -> None:
            names = " to ".join(self._leaders.get(owner, owner) for owner in owners)
            self.wrong[f"saga {saga_id} goes from {names} and its epoch stays"] = None

        def repeats(saga_id: str, state: str) -> None:
            self.wrong[f"saga {saga_id} is moved to {state}, where it was already"] = None

        connection.create_function("witness_leads", 1, leads)
        connection.create_function("witness_repeats", 2, repeats)
        connection.create_function("witness_moves", 5, moves)
        connection.create_function("witness_hands", 3, hands)
        connection.executescript(_TRIGGERS)
