"""Orders: from a cart to a paid, invoiced sale, by a saga that survives whatever happens on the way."""
