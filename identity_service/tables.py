"""The tables of the identity database. migrations/ makes them; a test proves that both agree."""

from sqlalchemy import Column, Index, Integer, MetaData, String, Table
from sqlalchemy.dialects import mysql

from mesh.db import ID, WORD, Utc

metadata = MetaData()

# Addresses are ASCII and lower-cased before they come here.
EMAIL = String(254).with_variant(mysql.VARCHAR(254, charset="ascii", collation="ascii_bin"), "mysql", "mariadb")
NAME = String(200).with_variant(mysql.VARCHAR(200, charset="utf8mb4"), "mysql", "mariadb")
# An argon2 hash in its PHC string form.
PASSWORD_HASH = String(128).with_variant(mysql.VARCHAR(128, charset="ascii", collation="ascii_bin"), "mysql", "mariadb")

# One account for each address: the address is the primary key, which is what makes it unique.
customers = Table(
    "customers",
    metadata,
    Column("email", EMAIL, primary_key=True),
    Column("customer_id", ID, nullable=False),
    Column("name", NAME, nullable=False),
    Column("role", WORD, nullable=False),
    Column("password_hash", PASSWORD_HASH, nullable=False),
    Column("create_time", Utc, nullable=False),
    Index("customers_by_id", "customer_id", unique=True),
)

# One row for each sign-in; rotation changes it in place. Hashes are SHA-256 in hexadecimal.
token_families = Table(
    "token_families",
    metadata,
    Column("family_hash", ID, primary_key=True),
    Column("customer_id", ID, nullable=False),
    Column("token_hash", ID, nullable=False),
    Column("expire_time", Utc, nullable=False),
    Column("revoke_time", Utc),
    Index("token_families_by_expiry", "expire_time"),
)

# The private keys that sign access tokens, as 32 bytes in hexadecimal (RFC 8032 section 5.1.5). The highest generation
# signs, all of them are published.
signing_keys = Table(
    "signing_keys",
    metadata,
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("private_key", ID, nullable=False),
    Column("create_time", Utc, nullable=False),
)
