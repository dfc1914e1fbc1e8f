import asyncio
import secrets
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import jwt
import pytest
from sqlalchemy import func, select, update
from sqlalchemy.engine import URL

from identity_service import store
from identity_service.domain import RefreshToken, Role
from identity_service.passwords import Passwords
from identity_service.service import IdentityService, _refresh
from identity_service.tables import customers, signing_keys, token_families
from mesh.auth import Authenticator
from mesh.caller import GUEST, Caller, Tier
from mesh.clock import SYSTEM_CLOCK
from mesh.db import Database, db_now, open_database
from mesh.errors import Failure, Kind

EMAIL, PASSWORD = "ann@shop.test", "correct horse"


async def refused(call: Awaitable[object]) -> Failure:
    with pytest.raises(Failure) as caught:
        await call
    return caught.value


async def count(database: Database, table: Any) -> int:
    async def body(connection: store.Connection) -> int:
        return int((await connection.execute(select(func.count()).select_from(table))).scalar_one())

    return await database.transact("count", body)


async def expire_families(database: Database) -> None:
    async def body(connection: store.Connection) -> None:
        await connection.execute(update(token_families).values(expire_time=db_now()))

    await database.transact("expire", body)


async def stored_texts(database: Database) -> str:
    async def body(connection: store.Connection) -> str:
        return "".join([str((await connection.execute(select(t))).all()) for t in (customers, token_families)])

    return await database.transact("read all", body)


def signed_in(customer_id: str) -> Caller:
    return Caller(Tier.CUSTOMER, customer_id)


async def test_a_registered_customer_signs_in_and_reads_the_profile(service: IdentityService) -> None:
    registered = await service.register("Ann@Shop.test", PASSWORD, name="Ann 🛒 Müller")

    pair = await service.issue_token("ANN@shop.TEST", PASSWORD)

    assert await service.get_me(await authenticated(service, pair.access_token)) == registered
    assert (registered.email, registered.name, registered.role) == (EMAIL, "Ann 🛒 Müller", Role.CUSTOMER)
    assert registered.create_time.utcoffset() == timedelta(0)


async def authenticated(service: IdentityService, access_token: str) -> Caller:
    return await Authenticator("s" * 32, service.get_keys).authenticate(f"Bearer {access_token}")


async def test_an_access_token_says_who_for_whom_and_how_long(service: IdentityService) -> None:
    customer = await service.register(EMAIL, PASSWORD, name="")

    token = (await service.issue_token(EMAIL, PASSWORD)).access_token

    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["iss"] == "shop.identity.v1"
    assert (claims["aud"], claims["sub"], claims["role"]) == ("shopmesh", customer.customer_id, "customer")
    assert claims["exp"] - claims["iat"] == 900
    assert claims["jti"]
    [key] = (await service.get_keys())["keys"]
    assert jwt.get_unverified_header(token) == {"alg": "EdDSA", "kid": key["kid"], "typ": "JWT"}


async def test_an_address_is_registered_once(service: IdentityService) -> None:
    first = await service.register(EMAIL, PASSWORD, name="first")

    failure = await refused(service.register("ANN@SHOP.TEST", "another horse", name="second"))

    assert (failure.kind, failure.reason) == (Kind.ALREADY_EXISTS, "EMAIL_TAKEN")
    assert await service.get_me(signed_in(first.customer_id)) == first


async def test_of_many_registrations_at_once_exactly_one_succeeds(service: IdentityService, database: Database) -> None:
    answers = await asyncio.gather(
        *(service.register(EMAIL, PASSWORD, name=str(n)) for n in range(20)), return_exceptions=True
    )

    refusals = [answer.reason for answer in answers if isinstance(answer, Failure)]
    assert refusals == ["EMAIL_TAKEN"] * 19
    assert await count(database, customers) == 1


async def test_registering_names_every_wrong_field(service: IdentityService) -> None:
    failure = await refused(service.register("nobody", "short", name="n" * 201))

    assert failure.kind is Kind.INVALID_ARGUMENT
    assert [violation.field for violation in failure.fields] == ["email", "password", "name"]
    assert "short" not in str(failure)


@pytest.mark.parametrize(("email", "password"), [(EMAIL, "wrong horse"), ("bob@shop.test", PASSWORD)])
async def test_a_wrong_address_and_a_wrong_password_get_the_same_answer(
    service: IdentityService, email: str, password: str
) -> None:
    await service.register(EMAIL, PASSWORD, name="")

    failure = await refused(service.issue_token(email, password))

    assert failure == Failure(Kind.UNAUTHENTICATED, "BAD_CREDENTIALS", "The e-mail address or the password is wrong.")


async def test_signing_in_without_anything_names_both_fields(service: IdentityService) -> None:
    failure = await refused(service.issue_token("", ""))

    assert [violation.field for violation in failure.fields] == ["email", "password"]


async def test_neither_password_nor_tokens_are_stored_as_they_are_sent(
    service: IdentityService, database: Database
) -> None:
    await service.register(EMAIL, PASSWORD, name="")
    pair = await service.issue_token(EMAIL, PASSWORD)

    stored = await stored_texts(database)

    assert EMAIL in stored
    for secret in (PASSWORD, pair.access_token, *pair.refresh_token.split(".")):
        assert secret not in stored


async def test_a_sign_in_renews_a_hash_of_old_parameters(
    service: IdentityService, database: Database, make_passwords: Callable[..., Passwords]
) -> None:
    await service.register(EMAIL, PASSWORD, name="")
    stricter = make_passwords(time_cost=2)

    await IdentityService(database, stricter, clock=SYSTEM_CLOCK).issue_token(EMAIL, PASSWORD)

    accounts = await database.transact("read", lambda connection: store.accounts_by_email(connection, [EMAIL]))
    assert not stricter.is_outdated(accounts[EMAIL].password_hash)
    assert await service.issue_token(EMAIL, PASSWORD)


async def test_refreshing_rotates_the_token_and_keeps_the_customer(service: IdentityService) -> None:
    customer = await service.register(EMAIL, PASSWORD, name="")
    first = await service.issue_token(EMAIL, PASSWORD)

    second = await service.refresh_token(first.refresh_token)
    third = await service.refresh_token(second.refresh_token)

    assert len({first.refresh_token, second.refresh_token, third.refresh_token}) == 3
    assert (await authenticated(service, third.access_token)).customer_id == customer.customer_id


async def test_reuse_of_a_spent_token_revokes_its_whole_family(service: IdentityService) -> None:
    await service.register(EMAIL, PASSWORD, name="")
    first = await service.issue_token(EMAIL, PASSWORD)
    elsewhere = await service.issue_token(EMAIL, PASSWORD)
    second = await service.refresh_token(first.refresh_token)

    failure = await refused(service.refresh_token(first.refresh_token))

    assert (failure.kind, failure.reason) == (Kind.UNAUTHENTICATED, "REFRESH_TOKEN_REUSED")
    assert (await refused(service.refresh_token(second.refresh_token))).reason == "REFRESH_TOKEN_INVALID"
    assert await service.refresh_token(elsewhere.refresh_token)


async def test_of_many_refreshes_with_one_token_at_most_one_succeeds(service: IdentityService) -> None:
    await service.register(EMAIL, PASSWORD, name="")
    first = await service.issue_token(EMAIL, PASSWORD)

    answers = await asyncio.gather(
        *(service.refresh_token(first.refresh_token) for _ in range(10)), return_exceptions=True
    )

    reasons = [answer.reason for answer in answers if isinstance(answer, Failure)]
    assert sorted(reasons) == ["REFRESH_TOKEN_INVALID"] * 8 + ["REFRESH_TOKEN_REUSED"]


async def test_a_rotation_that_runs_twice_answers_the_same(service: IdentityService, database: Database) -> None:
    customer = await service.register(EMAIL, PASSWORD, name="")
    shown = RefreshToken.draw(secrets.token_bytes)
    successor = shown.successor(secrets.token_bytes)

    async def body(connection: store.Connection) -> None:
        await store.start_family(connection, customer.customer_id, shown)
        await store.start_family(connection, customer.customer_id, shown)

    await database.transact("start twice", body)
    answers = [
        await database.transact("rotate", lambda connection: _refresh(shown, successor, connection)) for _ in range(2)
    ]

    assert [customer for _, customer in answers] == [customer, customer]
    assert await service.refresh_token(successor.text())


async def test_an_expired_token_is_refused_and_swept(service: IdentityService, database: Database) -> None:
    await service.register(EMAIL, PASSWORD, name="")
    pair = await service.issue_token(EMAIL, PASSWORD)
    await expire_families(database)
    living = await service.issue_token(EMAIL, PASSWORD)

    failure = await refused(service.refresh_token(pair.refresh_token))
    await service.sweep()

    assert (failure.kind, failure.reason) == (Kind.UNAUTHENTICATED, "REFRESH_TOKEN_INVALID")
    assert await count(database, token_families) == 1
    assert await service.refresh_token(living.refresh_token)


@pytest.mark.parametrize("which", [0, 1], ids=["spent", "current"])
async def test_any_token_of_a_family_revokes_it_and_twice_is_as_good(service: IdentityService, which: int) -> None:
    await service.register(EMAIL, PASSWORD, name="")
    first = await service.issue_token(EMAIL, PASSWORD)
    second = await service.refresh_token(first.refresh_token)

    for _ in range(2):
        await service.revoke_token((first, second)[which].refresh_token)

    assert (await refused(service.refresh_token(second.refresh_token))).reason == "REFRESH_TOKEN_INVALID"


@pytest.mark.parametrize("token", ["nonsense", f"{'f' * 43}.{'s' * 43}"], ids=["nonsense", "well-formed"])
async def test_unknown_tokens_are_refused_and_as_good_as_revoked(service: IdentityService, token: str) -> None:
    await service.revoke_token(token)

    assert (await refused(service.refresh_token(token))).reason == "REFRESH_TOKEN_INVALID"


async def test_an_empty_refresh_token_names_its_field(service: IdentityService) -> None:
    for call in (service.refresh_token(""), service.revoke_token("")):
        failure = await refused(call)
        assert [violation.field for violation in failure.fields] == ["refresh_token"]


async def test_a_name_can_be_changed_emptied_and_left(service: IdentityService) -> None:
    me = signed_in((await service.register(EMAIL, PASSWORD, name="Ann")).customer_id)

    assert (await service.update_me(me, name=None)).name == "Ann"
    assert (await service.update_me(me, name="Änne")).name == "Änne"
    assert (await service.update_me(me, name="")).name == ""
    assert (await refused(service.update_me(me, name="n" * 201))).fields[0].field == "customer.name"


async def test_a_guest_has_no_profile_and_a_stranger_none_here(service: IdentityService) -> None:
    for call in (service.get_me, lambda caller: service.update_me(caller, name="x")):
        assert (await refused(call(GUEST))).kind is Kind.UNAUTHENTICATED
        assert (await refused(call(signed_in("from-another-issuer")))).reason == "CUSTOMER_NOT_FOUND"


async def test_demo_accounts_are_made_once_and_sign_in(service: IdentityService, database: Database) -> None:
    await service.ensure_demo_accounts()
    await service.ensure_demo_accounts()

    operator = await service.issue_token("operator@shop.test", "operator-demo")
    customer = await service.issue_token("customer@shop.test", "customer-demo")
    assert (await authenticated(service, operator.access_token)).tier is Tier.OPERATOR
    assert (await authenticated(service, customer.access_token)).tier is Tier.CUSTOMER
    assert (await service.get_me(await authenticated(service, operator.access_token))).role is Role.OPERATOR
    assert await count(database, customers) == 2


async def test_replicas_that_start_at_once_sign_with_one_key(
    database_url: URL, make_passwords: Callable[..., Passwords]
) -> None:
    databases = [await open_database(database_url) for _ in range(4)]
    replicas = [IdentityService(database, make_passwords(), clock=SYSTEM_CLOCK) for database in databases]

    key_sets = await asyncio.gather(*(replica.get_keys() for replica in replicas))

    assert all(key_set == key_sets[0] for key_set in key_sets)
    assert await count(databases[0], signing_keys) == 1
    await asyncio.gather(*(database.close() for database in databases))


async def test_a_newer_key_signs_and_the_older_one_still_verifies(
    service: IdentityService, database: Database, make_passwords: Callable[..., Passwords]
) -> None:
    await service.register(EMAIL, PASSWORD, name="")
    old = (await service.issue_token(EMAIL, PASSWORD)).access_token

    async def rotate(connection: store.Connection) -> None:
        row = {"generation": 2, "private_key": secrets.token_hex(32), "create_time": db_now()}
        await connection.execute(signing_keys.insert().values(row))

    await database.transact("rotate key", rotate)
    restarted = IdentityService(database, make_passwords(), clock=SYSTEM_CLOCK)
    new = (await restarted.issue_token(EMAIL, PASSWORD)).access_token

    assert jwt.get_unverified_header(old)["kid"] != jwt.get_unverified_header(new)["kid"]
    assert await authenticated(restarted, old) == await authenticated(restarted, new)
