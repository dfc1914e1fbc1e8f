"""`shopmesh audit`: proves from the databases that every promise was kept, or names who it was broken to.

`await audit(AuditOptions(settings=..., journal=..., as_json=...))` answers the exit code: 0 clean, 1 something was
found, 2 wrong use, such as a database that cannot be reached. `settings` are any of the kit's: the databases are found
as the services find them. The audit only reads, and may run while orders move.
"""

from shopmesh.audit.command import audit
from shopmesh.audit.options import AuditOptions

__all__ = ["AuditOptions", "audit"]
