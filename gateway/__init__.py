"""A REST shim for gRPC services: serves the google.api.http rules of any descriptor set, no route by hand."""
