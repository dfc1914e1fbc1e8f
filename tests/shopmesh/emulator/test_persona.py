"""Customers are drawn from the seed and from nothing else."""

from collections import Counter

from shopmesh.emulator.persona import Joining, Manner, Persona, another_day, draw


def crowd(*, seed: int = 1, of: int = 400, grpc_share: float = 0.2, pace: float = 1.0) -> list[Persona]:
    return [draw(seed=seed, number=number, of=of, grpc_share=grpc_share, pace=pace) for number in range(of)]


def test_the_same_seed_makes_the_same_customers() -> None:
    assert crowd() == crowd()
    assert crowd() != crowd(seed=2)


def test_a_larger_crowd_has_the_same_customers_who_come_later() -> None:
    small, large = crowd(of=10), crowd(of=20)
    assert [one.cards for one in small] == [one.cards for one in large[:10]]
    assert [2 * one.arrives_after_s for one in small] == [one.arrives_after_s for one in large[:10]]


def test_every_kind_of_customer_is_there() -> None:
    kinds = Counter[object]()
    for one in crowd():
        kinds.update((one.joining, one.manner, one.cards, one.baskets))
    cards = {card for one in crowd() for card in one.cards}
    assert {*Joining, *Manner, 1, 2} <= kinds.keys()
    assert {one.hunts for one in crowd()} == {True, False}
    assert cards == {
        "tok_ok",
        "tok_decline",
        "tok_timeout_charged",
        "tok_capture_decline",
        "tok_slow",
        "tok_webhook_twice",
    }


def test_the_share_of_grpc_is_kept() -> None:
    assert not any(one.speaks_grpc for one in crowd(grpc_share=0))
    assert all(one.speaks_grpc for one in crowd(grpc_share=1))
    assert 50 < sum(one.speaks_grpc for one in crowd()) < 110


def test_at_pace_0_everybody_comes_at_once() -> None:
    assert {one.arrives_after_s for one in crowd(pace=0)} == {0}


def test_the_same_person_is_in_another_mood_on_another_day() -> None:
    (person, *_) = crowd()
    days = [another_day(person, day) for day in range(40)]
    assert days == [another_day(person, day) for day in range(40)]
    assert {(one.number, one.joining, one.seed) for one in days} == {(person.number, person.joining, person.seed)}
    assert len({(one.manner, one.cards) for one in days}) > 5
