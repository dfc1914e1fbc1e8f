"""What an emulation is told."""

from dataclasses import dataclass
from pathlib import Path

from mesh.config import Settings
from mesh.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulateOptions:
    """`shopmesh emulate --customers 200 --http URL --grpc HOST:PORT --grpc-share 0.2 --seed N --journal FILE`.

    Raises ConfigError for values that make no sense.
    """

    # Tells where the mesh is if the two addresses below do not, and where its databases are, for the audit.
    settings: Settings
    customers: int = 200
    http: str | None = None
    grpc: str | None = None
    # How many of the customers speak gRPC, 0 to 1.
    grpc_share: float = 0.2
    # The same seed makes the same customers with the same wishes; timing is the machine's.
    seed: int = 1
    # Where to write what was acknowledged; in the data folder if not said.
    journal: Path | None = None
    # A mesh elsewhere does not let us see its databases.
    audit: bool = True
    # How slowly people move: 1 is a brisk shopper, 0 never stops to think.
    pace: float = 1.0

    def __post_init__(self) -> None:
        problems = []
        if self.customers < 1:
            problems.append("--customers: must be at least 1")
        if not 0 <= self.grpc_share <= 1:
            problems.append("--grpc-share: must be between 0 and 1")
        if self.pace < 0:
            problems.append("--pace: must not be negative")
        if self.http is not None and not self.http.startswith(("http://", "https://")):
            problems.append("--http: must be a URL such as http://127.0.0.1:8080")
        if problems:
            raise ConfigError(problems)

    @property
    def http_url(self) -> str:
        """Where REST is served."""
        return self.http or f"http://{self.settings.bind}:{self.settings.http_port}"

    @property
    def grpc_address(self) -> str:
        """Where gRPC is served."""
        return self.grpc or f"{self.settings.bind}:{self.settings.grpc_port}"

    def journal_path(self, run_id: str) -> Path:
        """Where this run's journal goes."""
        return self.journal or self.settings.data_dir / "journals" / f"{run_id}.jsonl"
