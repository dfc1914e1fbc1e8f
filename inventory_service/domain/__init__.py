"""The rules of catalogue and stock: values and decisions, no input or output."""
