"""The kit that all services share: errors, configuration, database, batches, channels, start and stop.

It holds no word of the business and imports no service.
"""

import os

# What gRPC's core receives is then read by the thread that waits for it, instead of handed through three others on its
# way: a tenth less time for a lone order, and a twentieth less processor time for one among many (docs/performance.md).
# It is read when the core is loaded, so it has to stand before the first import of grpc.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")
