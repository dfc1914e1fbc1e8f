"""The use cases: one method for each RPC, and what the sweeper does. They own the transactions."""
