"""The tables of the cart service."""

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, MetaData, Table

from mesh.db import ID, Utc

metadata = MetaData()

# A row of version 0 stands for a cart that does not exist: somebody locked its id and then wrote nothing.
carts = Table(
    "carts",
    metadata,
    Column("cart_id", ID, primary_key=True),
    # Empty while nobody who signed in has written to it.
    Column("customer_id", ID, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("create_time", Utc, nullable=False),
    Column("update_time", Utc, nullable=False),
    CheckConstraint("version >= 0", name="carts_version"),
    Index("carts_by_update_time", "update_time"),
)

cart_items = Table(
    "cart_items",
    metadata,
    Column("cart_id", ID, primary_key=True),
    Column("sku", ID, primary_key=True),
    Column("quantity", Integer, nullable=False),
    # The cart's version that first added the SKU: the order of the lines.
    Column("position", BigInteger, nullable=False),
    CheckConstraint("quantity BETWEEN 1 AND 10000", name="cart_items_quantity"),
)

# What AddItem added under a key; a request without one is given one, against a repeated transaction.
cart_requests = Table(
    "cart_requests",
    metadata,
    Column("cart_id", ID, primary_key=True),
    Column("request_id", ID, primary_key=True),
    Column("sku", ID, nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("create_time", Utc, nullable=False),
    Index("cart_requests_by_create_time", "create_time"),
)

# Orders whose purchase has left their cart.
settlements = Table(
    "settlements",
    metadata,
    Column("order_id", ID, primary_key=True),
    Column("cart_id", ID, nullable=False),
    Column("create_time", Utc, nullable=False),
    Index("settlements_by_create_time", "create_time"),
)
