"""A REST shim for gRPC services: serves the google.api.http rules of any descriptor set, no route by hand."""

import os

# As in mesh/__init__.py: fewer threads between a socket and who waits for it. Before the first import of grpc.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")
