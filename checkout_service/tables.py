"""The tables of the checkout database."""

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, LargeBinary, MetaData, String, Table
from sqlalchemy.dialects import mysql

from mesh.db import ID, TEXT, WORD, Utc

metadata = MetaData()

# caller and request_id in one: "customer:<id>/<request_id>" or "cart:<id>/<request_id>".
KEY = String(160).with_variant(mysql.VARCHAR(160, charset="ascii", collation="ascii_bin"), "mysql", "mariadb")
_BYTES = LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb")

# One key, one order: the first line of defence against doing something twice.
order_keys = Table(
    "order_keys",
    metadata,
    Column("key_id", KEY, primary_key=True),
    Column("order_id", ID, nullable=False),
    Column("fingerprint", WORD, nullable=False),
    Column("create_time", Utc(), nullable=False),
)

# What a key answers for ever: the serialized Order.
answers = Table(
    "answers",
    metadata,
    Column("key_id", KEY, primary_key=True),
    Column("order_id", ID, nullable=False),
    Column("answer", _BYTES, nullable=False),
)

# At most one order under way per cart: order_id is empty while there is none. ordered_version is the last version of
# the cart that still held what was bought: an order must come from a later reading.
cart_claims = Table(
    "cart_claims",
    metadata,
    Column("cart_id", ID, primary_key=True),
    Column("order_id", ID, nullable=False),
    Column("ordered_version", BigInteger, nullable=False),
    Column("update_time", Utc(), nullable=False),
    Index("ix_cart_claims_update_time", "update_time"),
)

orders = Table(
    "orders",
    metadata,
    Column("order_id", ID, primary_key=True),
    Column("key_id", KEY, nullable=False),
    Column("state", WORD, nullable=False),
    Column("reason", WORD, nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("currency_code", WORD, nullable=False),
    Column("subtotal_minor", BigInteger, nullable=False),
    Column("discount_minor", BigInteger, nullable=False),
    Column("shipping_minor", BigInteger, nullable=False),
    Column("tax_minor", BigInteger, nullable=False),
    Column("total_minor", BigInteger, nullable=False),
    Column("cart_id", ID, nullable=False),
    Column("cart_version", BigInteger, nullable=False),
    Column("customer_id", ID, nullable=False),
    Column("country", WORD, nullable=False),
    Column("postal_code", String(20), nullable=False),
    Column("address", String(500), nullable=False),
    Column("phone_number", String(40), nullable=False),
    # A JSON list of strings.
    Column("promotion_codes", TEXT, nullable=False),
    Column("source", WORD, nullable=False),
    Column("notes", TEXT, nullable=False),
    Column("delivery_instructions", TEXT, nullable=False),
    Column("payment_id", ID, nullable=False),
    Column("create_time", Utc(), nullable=False),
    Column("update_time", Utc(), nullable=False),
    Column("created_by", ID, nullable=False),
    Column("updated_by", ID, nullable=False),
    CheckConstraint(
        "total_minor = subtotal_minor - discount_minor + shipping_minor + tax_minor", name="ck_orders_total_adds_up"
    ),
    CheckConstraint("total_minor >= 0", name="ck_orders_total_not_negative"),
    # order_id is a UUIDv7, so this lists a customer's orders by time.
    Index("ix_orders_customer", "customer_id", "order_id"),
)

order_lines = Table(
    "order_lines",
    metadata,
    Column("order_id", ID, primary_key=True),
    Column("sku", ID, primary_key=True),
    Column("name", String(200), nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("unit_minor", BigInteger, nullable=False),
    # What a refusal for want of stock saw.
    Column("available", BigInteger, nullable=True),
    CheckConstraint("quantity > 0", name="ck_order_lines_quantity"),
)

# One row per change of an order's state; the primary key makes sure of "exactly one, in order".
order_events = Table(
    "order_events",
    metadata,
    Column("order_id", ID, primary_key=True),
    Column("sequence", Integer, primary_key=True),
    Column("state", WORD, nullable=False),
    Column("reason", WORD, nullable=False),
    Column("actor", ID, nullable=False),
    Column("create_time", Utc(), nullable=False),
)

invoices = Table(
    "invoices",
    metadata,
    Column("order_id", ID, primary_key=True),
    Column("invoice_number", WORD, nullable=False),
    Column("currency_code", WORD, nullable=False),
    Column("subtotal_minor", BigInteger, nullable=False),
    Column("discount_minor", BigInteger, nullable=False),
    Column("shipping_minor", BigInteger, nullable=False),
    Column("tax_minor", BigInteger, nullable=False),
    Column("total_minor", BigInteger, nullable=False),
    Column("create_time", Utc(), nullable=False),
)

# What others are to be told, written with the change it tells of; (order_id, sequence) is the event's stable id.
outbox = Table(
    "outbox",
    metadata,
    Column("order_id", ID, primary_key=True),
    Column("sequence", Integer, primary_key=True),
    Column("state", WORD, nullable=False),
    Column("create_time", Utc(), nullable=False),
)

# The lease of the one process that publishes what the outbox holds, by the database's clock.
relays = Table(
    "relays",
    metadata,
    Column("name", WORD, primary_key=True),
    Column("owner", ID, nullable=False),
    Column("lease_until", Utc(), nullable=False),
)

# saga_id is the order's id. owner is empty when the saga rests, and 'operator' when it is parked.
sagas = Table(
    "sagas",
    metadata,
    Column("saga_id", ID, primary_key=True),
    Column("state", WORD, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("owner", ID, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("authorizations", Integer, nullable=False),
    Column("last_error", String(200), nullable=False),
    Column("deadline", Utc(), nullable=True),
    Column("next_attempt_time", Utc(), nullable=True),
    Column("fails_as_state", WORD, nullable=False),
    Column("fails_as_reason", WORD, nullable=False),
    Column("held_until", Utc(), nullable=True),
    # Who wants the order undone, as the reason it will show; why the saga is parked.
    Column("wish", WORD, nullable=False),
    Column("stuck_reason", WORD, nullable=False),
    # When the provider is to be asked for payments that should not be.
    Column("check_time", Utc(), nullable=True),
    # What the provider gave the client, never a card number; emptied when the saga rests.
    Column("payment_token", String(255), nullable=False),
    Column("create_time", Utc(), nullable=False),
    Column("update_time", Utc(), nullable=False),
    Index("ix_sagas_owner", "owner", "saga_id"),
    Index("ix_sagas_state", "state", "saga_id"),
    Index("ix_sagas_check_time", "check_time"),
)

# What people did to sagas and what they must know of them. entry_id is the request's own, so that a repetition is
# nothing.
saga_log = Table(
    "saga_log",
    metadata,
    Column("saga_id", ID, primary_key=True),
    Column("entry_id", ID, primary_key=True),
    # CANCEL, REFUND, RETRY, ABORT, RESOLVE: what was asked for. STRAY_PAYMENT: what was found.
    Column("kind", WORD, nullable=False),
    Column("actor", ID, nullable=False),
    # The words of whoever asked, and the facts: a resolution, a payment's id.
    Column("reason", TEXT, nullable=False),
    Column("detail", TEXT, nullable=False),
    Column("create_time", Utc(), nullable=False),
)

# What the payment provider told. Keyed by the event's own id, so that a repetition is nothing.
inbox = Table(
    "inbox",
    metadata,
    Column("event_id", ID, primary_key=True),
    Column("order_id", ID, nullable=False),
    Column("kind", WORD, nullable=False),
    Column("payment_id", ID, nullable=False),
    Column("create_time", Utc(), nullable=False),
    Index("ix_inbox_order", "order_id"),
)

# The lease of each coordinator process, by the database's clock.
coordinators = Table(
    "coordinators",
    metadata,
    Column("owner", ID, primary_key=True),
    Column("lease_until", Utc(), nullable=False),
)
