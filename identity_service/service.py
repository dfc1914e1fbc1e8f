"""The use cases of identity: one method for each RPC, and the housekeeping."""

from functools import partial

from identity_service import domain, store
from identity_service.domain import Account, Customer, NewAccount, RefreshToken, Role, TokenPair, Verdict
from identity_service.passwords import Passwords
from identity_service.store import Connection
from identity_service.tokens import Signer
from mesh.caller import Caller
from mesh.clock import Clock
from mesh.db import Database
from mesh.errors import Failure, FieldViolation, Kind, invalid
from mesh.validate import Violations

_DEMO_ACCOUNTS = (
    ("operator@shop.test", "operator-demo", Role.OPERATOR),
    ("customer@shop.test", "customer-demo", Role.CUSTOMER),
)


class IdentityService:
    """Accounts and tokens. Nothing here logs or answers a password, and no token is stored as it is sent."""

    def __init__(self, database: Database, passwords: Passwords, *, clock: Clock) -> None:
        self._database = database
        self._passwords = passwords
        self._clock = clock
        self._signer: Signer | None = None

    async def register(self, email: str, password: str, *, name: str) -> Customer:
        """Make a customer's account. Raises ALREADY_EXISTS EMAIL_TAKEN; of many at once exactly one succeeds."""
        email = domain.normal_email(email)
        _check_registration(email, password, name)
        account = await self._new_account(email, password, name=name, role=Role.CUSTOMER)

        async def insert(connection: Connection) -> Customer:
            await store.insert_accounts(connection, [account])
            return (await store.accounts_by_email(connection, [email]))[email].customer

        customer = await self._database.transact("register", insert)
        if customer.customer_id != account.customer_id:
            raise Failure(Kind.ALREADY_EXISTS, "EMAIL_TAKEN", "An account with this e-mail address exists.")
        return customer

    async def issue_token(self, email: str, password: str) -> TokenPair:
        """Tokens for an e-mail address and its password.

        Raises UNAUTHENTICATED BAD_CREDENTIALS, after the same time whether or not the address has an account.
        """
        email = domain.normal_email(email)
        _check_credentials(email, password)
        accounts = await self._database.transact(
            "find account", lambda connection: store.accounts_by_email(connection, [email]), read_only=True
        )
        account = accounts.get(email)
        matches = await self._passwords.verify(password, account.password_hash if account else None)
        if account is None or not matches:
            raise Failure(Kind.UNAUTHENTICATED, "BAD_CREDENTIALS", "The e-mail address or the password is wrong.")
        return await self._sign_in(account, password)

    async def refresh_token(self, refresh_token: str) -> TokenPair:
        """A new pair for a refresh token, which is spent by it.

        Raises UNAUTHENTICATED: REFRESH_TOKEN_REUSED for a spent one, whose family is revoked; REFRESH_TOKEN_INVALID
        for one that is unknown, revoked or expired.
        """
        shown = _parsed(refresh_token)
        if shown is None:
            raise _refused()
        signer = await self._signing()
        successor = shown.successor(self._clock.random_bytes)
        verdict, customer = await self._database.transact("refresh", partial(_refresh, shown, successor))
        if verdict is Verdict.REUSED:
            message = "This refresh token was used before, so its whole family is revoked. Sign in again."
            raise Failure(Kind.UNAUTHENTICATED, "REFRESH_TOKEN_REUSED", message)
        if customer is None:
            raise _refused()
        return self._pair(signer, customer, successor)

    async def revoke_token(self, refresh_token: str) -> None:
        """End the family of a refresh token, spent or not. Unknown tokens are as good as revoked. Idempotent."""
        shown = _parsed(refresh_token)
        if shown is not None:
            await self._database.transact("revoke", lambda connection: store.revoke_family(connection, shown))

    async def get_me(self, caller: Caller) -> Customer:
        """The caller's own profile. Raises UNAUTHENTICATED for guests, NOT_FOUND when the account is not ours."""
        customer_id = caller.required_customer_id()
        customer = await self._database.transact(
            "get me", lambda connection: store.customer_by_id(connection, customer_id), read_only=True
        )
        return _found(customer)

    async def update_me(self, caller: Caller, *, name: str | None) -> Customer:
        """Change the caller's own profile; None leaves the name. Raises as `get_me` does. Idempotent."""
        customer_id = caller.required_customer_id()
        if name is None:
            return await self.get_me(caller)
        _check_name("customer.name", name)

        async def rename(connection: Connection) -> Customer | None:
            await store.rename_customer(connection, customer_id, name)
            return await store.customer_by_id(connection, customer_id)

        return _found(await self._database.transact("update me", rename))

    async def get_keys(self) -> dict[str, list[dict[str, str]]]:
        """The public keys that verify access tokens, as a JWK set."""
        return (await self._signing()).key_set()

    async def ensure_demo_accounts(self) -> None:
        """Make the sign-ins of the demo that are not there yet. Idempotent; a changed one is left as it is."""
        emails = [email for email, _, _ in _DEMO_ACCOUNTS]
        standing = await self._database.transact(
            "find demo", lambda connection: store.accounts_by_email(connection, emails), read_only=True
        )
        missing = [
            await self._new_account(email, password, name=f"Demo {role}", role=role)
            for email, password, role in _DEMO_ACCOUNTS
            if email not in standing
        ]
        if missing:
            await self._database.transact("demo", lambda connection: store.insert_accounts(connection, missing))

    async def sweep(self) -> None:
        """Forget the token families that have expired, a bounded number for each transaction."""
        while await self._database.transact("sweep", store.sweep_families):
            pass

    async def _new_account(self, email: str, password: str, *, name: str, role: Role) -> NewAccount:
        return NewAccount(
            customer_id=self._clock.uuid7(),
            email=email,
            name=name,
            role=role,
            password_hash=await self._passwords.hash(password),
        )

    async def _sign_in(self, account: Account, password: str) -> TokenPair:
        signer = await self._signing()
        token = RefreshToken.draw(self._clock.random_bytes)
        outdated = self._passwords.is_outdated(account.password_hash)
        new_hash = await self._passwords.hash(password) if outdated else None

        async def write(connection: Connection) -> None:
            await store.start_family(connection, account.customer.customer_id, token)
            if new_hash is not None:
                await store.replace_password_hash(connection, account, new_hash)

        await self._database.transact("sign in", write)
        return self._pair(signer, account.customer, token)

    async def _signing(self) -> Signer:
        # Read once: a key that is added later signs after the next start, and is published by then by every replica.
        if self._signer is None:
            candidate = self._clock.random_bytes(32).hex()
            keys = await self._database.transact(
                "signing keys", lambda connection: store.private_keys(connection, candidate)
            )
            self._signer = Signer(keys)
        return self._signer

    def _pair(self, signer: Signer, customer: Customer, refresh_token: RefreshToken) -> TokenPair:
        access_token = signer.access_token(customer, token_id=self._clock.uuid7(), now=self._clock.now())
        return TokenPair(access_token=access_token, refresh_token=refresh_token.text())


async def _refresh(
    shown: RefreshToken, successor: RefreshToken, connection: Connection
) -> tuple[Verdict, Customer | None]:
    family, now = await store.lock_family(connection, shown)
    verdict = domain.judge(family, shown, successor, now=now)
    if verdict is Verdict.REUSED:
        await store.revoke_family(connection, shown)
    if verdict is Verdict.ROTATE:
        await store.rotate(connection, successor, at=now)
    if family is None or verdict not in (Verdict.ROTATE, Verdict.ROTATED):
        return verdict, None
    return verdict, await store.customer_by_id(connection, family.customer_id)


def _check_registration(email: str, password: str, name: str) -> None:
    violations = Violations()
    _check_email(violations, email)
    violations.text("password", password, least=domain.MIN_PASSWORD, most=domain.MAX_PASSWORD)
    violations.text("name", name, most=domain.MAX_NAME)
    violations.raise_if_any()


def _check_credentials(email: str, password: str) -> None:
    violations = Violations()
    _check_email(violations, email)
    violations.text("password", password, least=1, most=domain.MAX_PASSWORD)
    violations.raise_if_any()


def _check_email(violations: Violations, email: str) -> None:
    if not domain.is_email(email):
        violations.add("email", f"must be an e-mail address of at most {domain.MAX_EMAIL} characters")


def _check_name(field: str, name: str) -> None:
    violations = Violations()
    violations.text(field, name, most=domain.MAX_NAME)
    violations.raise_if_any()


def _parsed(refresh_token: str) -> RefreshToken | None:
    if not refresh_token:
        raise invalid(FieldViolation("refresh_token", "must not be empty"))
    return RefreshToken.parse(refresh_token)


def _refused() -> Failure:
    return Failure(Kind.UNAUTHENTICATED, "REFRESH_TOKEN_INVALID", "The refresh token is not valid or has expired.")


def _found(customer: Customer | None) -> Customer:
    if customer is None:
        raise Failure(Kind.NOT_FOUND, "CUSTOMER_NOT_FOUND", "There is no account behind this token.")
    return customer
