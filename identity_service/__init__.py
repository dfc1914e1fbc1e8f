"""Customers, their passwords, and the tokens that the other services verify."""
