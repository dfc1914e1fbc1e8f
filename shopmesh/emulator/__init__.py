"""`shopmesh emulate`: customers who shop in a running mesh, all at once, and check what they are told.

`await emulate(EmulateOptions(settings=..., customers=..., ...))` answers the exit code: 0 when everything that was
acknowledged is so and the audit is clean, 1 for any difference, unexpected error or finding, 2 for wrong use, such as a
mesh that does not answer. EmulateOptions raises ConfigError for values that make no sense.
"""

from shopmesh.emulator.command import emulate
from shopmesh.emulator.options import EmulateOptions

__all__ = ["EmulateOptions", "emulate"]
