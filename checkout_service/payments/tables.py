"""The simulated provider's book: a database of its own, one row per payment key. Orders are audited against it."""

from sqlalchemy import BigInteger, CheckConstraint, Column, MetaData, Table

from mesh.db import ID, WORD, Utc

metadata = MetaData()

# state: PENDING, AUTHORIZED, CAPTURED, DECLINED, CANCELLED, REFUNDED. Amounts in minor units of currency_code.
payments = Table(
    "payments",
    metadata,
    Column("payment_key", ID, primary_key=True),
    Column("payment_id", ID, nullable=False),
    Column("state", WORD, nullable=False),
    Column("currency_code", WORD, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("captured_minor", BigInteger, nullable=False),
    Column("refunded_minor", BigInteger, nullable=False),
    # How the book treats the payment later, taken from the test token: '', CAPTURE_DECLINE or
    # REFUND_DECLINE.
    Column("behaviour", WORD, nullable=False),
    Column("create_time", Utc(), nullable=False),
    Column("update_time", Utc(), nullable=False),
    CheckConstraint("captured_minor >= 0 AND captured_minor <= amount_minor", name="ck_payments_captured"),
    CheckConstraint("refunded_minor >= 0 AND refunded_minor <= captured_minor", name="ck_payments_refunded"),
)
