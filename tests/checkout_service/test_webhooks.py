"""Who may send payment events, and what is taken from them."""

import json

import pytest

from checkout_service.domain import PaymentEventKind
from checkout_service.webhooks import TOLERANCE_S, parse, sign, verify
from mesh.errors import Failure, Kind

AT = 1_790_000_000
BODY = b'{"id": "evt_1", "type": "payment.succeeded", "order_id": "o-1", "payment_id": "pay_1"}'
SECRETS = ["new-secret", "old-secret"]


def refused(body: bytes, header: str, *, now: int = AT) -> None:
    with pytest.raises(Failure) as caught:
        verify(body, header, SECRETS, now=now)
    assert (caught.value.kind, caught.value.reason) == (Kind.UNAUTHENTICATED, "SIGNATURE_INVALID")


@pytest.mark.parametrize("secret", SECRETS)
def test_any_secret_in_use_signs(secret: str) -> None:
    verify(BODY, sign(BODY, secret, at=AT), SECRETS, now=AT)


def test_one_good_signature_of_several_is_enough() -> None:
    _, good = sign(BODY, "new-secret", at=AT).split(",")
    _, foreign = sign(BODY, "somebody-elses", at=AT).split(",")

    verify(BODY, f"t={AT},{foreign},{good}", SECRETS, now=AT)
    verify(BODY, f"t={AT},{good},{foreign}", SECRETS, now=AT)


@pytest.mark.parametrize("age_s", [0, TOLERANCE_S, -TOLERANCE_S])
def test_five_minutes_either_way_are_tolerated(age_s: int) -> None:
    verify(BODY, sign(BODY, "new-secret", at=AT - age_s), SECRETS, now=AT)


@pytest.mark.survives("webhook-replayed-late")
@pytest.mark.parametrize("age_s", [301, 360, -301])
def test_older_or_from_the_future_is_refused(age_s: int) -> None:
    refused(BODY, sign(BODY, "new-secret", at=AT - age_s))


@pytest.mark.survives("webhook-bad-signature")
def test_a_foreign_secret_is_refused() -> None:
    refused(BODY, sign(BODY, "somebody-elses", at=AT))


def test_a_time_that_was_not_signed_is_refused() -> None:
    refused(BODY, sign(BODY, "new-secret", at=AT - 400).replace(str(AT - 400), str(AT)))


@pytest.mark.survives("webhook-reserialised")
def test_the_same_event_serialized_again_is_refused() -> None:
    again = json.dumps(json.loads(BODY), separators=(",", ":")).encode()

    assert json.loads(again) == json.loads(BODY)
    refused(again, sign(BODY, "new-secret", at=AT))


@pytest.mark.parametrize(
    "header",
    [
        "",
        "garbage",
        f"t={AT}",
        f"v1={'0' * 64}",
        f"t={AT},v1=",
        f"t={AT},v1={'0' * 63}",
        f"t={AT},v1={'A' * 64}",
        f"t={AT},v0={'0' * 64}",
        f"t=,v1={'0' * 64}",
        f"t=-{AT},v1={'0' * 64}",
        f"t={'9' * 400},v1={'0' * 64}",
        f"t={AT}" + f",v1={'0' * 64}" * 9,
        f" t={AT},v1={'0' * 64}",
        f"t={AT},v1={'0' * 64}\n",
    ],
)
def test_a_header_of_another_form_is_refused(header: str) -> None:
    refused(BODY, header)


def test_an_event_is_taken_from_its_body() -> None:
    event = parse(BODY)

    assert (event.event_id, event.order_id, event.payment_id) == ("evt_1", "o-1", "pay_1")
    assert event.kind is PaymentEventKind.SUCCEEDED


@pytest.mark.parametrize(
    ("kind", "meaning"),
    [
        ("payment.succeeded", PaymentEventKind.SUCCEEDED),
        ("payment_intent.succeeded", PaymentEventKind.SUCCEEDED),
        ("payment.failed", PaymentEventKind.FAILED),
        ("payment.cancelled", PaymentEventKind.CANCELLED),
        ("payment.updated", PaymentEventKind.OTHER),
        ("payment", PaymentEventKind.OTHER),
        ("succeeded.payment", PaymentEventKind.OTHER),
        ("refund.succeeded", PaymentEventKind.OTHER),
        ("refund.failed", PaymentEventKind.OTHER),
        ("payout.paid", PaymentEventKind.OTHER),
        ("payment.refund.succeeded", PaymentEventKind.OTHER),
        ("failed", PaymentEventKind.OTHER),
    ],
)
def test_only_an_event_about_the_payment_tells_what_happened_to_it(kind: str, meaning: PaymentEventKind) -> None:
    assert parse(json.dumps({"id": "e", "type": kind, "order_id": "o"}).encode()).kind is meaning


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", {"body"}),
        (b"not json", {"body"}),
        (b"\xff\xfe", {"body"}),
        (b"[1, 2]", {"body"}),
        (b"null", {"body"}),
        (b"[" * 5000, {"body"}),
        (b"{}", {"id", "type", "order_id"}),
        (b'{"id": 7, "type": "payment.failed", "order_id": null, "payment_id": []}', {"id", "order_id", "payment_id"}),
        (b'{"id": "e", "type": "two words", "order_id": "' + b"o" * 65 + b'"}', {"type", "order_id"}),
    ],
)
def test_a_body_that_is_no_event_is_refused_with_every_bad_field_named(body: bytes, named: set[str]) -> None:
    with pytest.raises(Failure) as caught:
        parse(body)

    assert caught.value.kind is Kind.INVALID_ARGUMENT
    assert {violation.field for violation in caught.value.fields} == named
