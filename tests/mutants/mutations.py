"""Bugs that others have shipped, each as a change of a line or two of our own code, and why it matters."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace a text, which must stand in the file exactly once, by another."""

    path: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutation:
    """One planted bug. `hunter` is who is sent after it first; the others follow."""

    name: str
    # What a customer, or the shop, would lose by it.
    harm: str
    edits: tuple[Edit, ...]
    hunter: str = "simulation"


def _one(name: str, harm: str, path: str, old: str, new: str, *, hunter: str = "simulation") -> Mutation:
    return Mutation(name, harm, (Edit(path, old, new),), hunter)


_BOOK = "inventory_service/domain/book.py"
_SCHEMA = "inventory_service/migrations/versions/0001_catalogue_and_stock.py"
_SAGA = "checkout_service/saga.py"
_SAGA_STORE = "checkout_service/saga_store.py"

MUTATIONS: tuple[Mutation, ...] = (
    _one(
        "no-barrier",
        "a reserve that comes after its own release holds stock for ever",
        _BOOK,
        "                return self._keep(tombstone(request, self.now))",
        "                return tombstone(request, self.now)",
    ),
    _one(
        "late-reserve-is-told-success",
        "a saga goes on with stock that it has given back",
        _BOOK,
        "        case State.RELEASED | State.RETURNED:\n            raise rules.given_back_before(standing.state)\n",
        "",
    ),
    _one(
        "no-epoch-at-inventory",
        "a coordinator that was replaced sells what its successor has given back",
        _BOOK,
        "        if request.epoch < standing.epoch:\n",
        "        if request.epoch < 0:\n",
    ),
    Mutation(
        "no-epoch-predicate",
        "two coordinators move one saga",
        (
            Edit(
                _SAGA_STORE,
                "    if row is None or row.epoch != before.epoch:\n        return _LOST\n"
                "    if row.owner == before.owner and row.state == before.state:\n",
                "    if row is None:\n        return _LOST\n    if row.state == before.state:\n",
            ),
            Edit(_SAGA_STORE, '_BELIEVED = ("epoch", "owner", "state", "wish")', '_BELIEVED = ("state", "wish")'),
        ),
    ),
    _one(
        "no-wish-predicate",
        "an order that its customer has called off is sold",
        _SAGA_STORE,
        '_BELIEVED = ("epoch", "owner", "state", "wish")',
        '_BELIEVED = ("epoch", "owner", "state")',
    ),
    _one(
        "no-state-predicate",
        "a step that was made already is made again",
        _SAGA_STORE,
        "    if row.owner == before.owner and row.state == before.state:\n",
        "    if row.owner == before.owner:\n",
    ),
    Mutation(
        "batch-mates-see-the-same-stock",
        "the last unit is sold to everybody in the batch",
        (
            Edit(_BOOK, "            self.shelves[line.sku].held += sign * line.quantity\n", ""),
            # The second line would hold: a batch that the CHECK refuses is split until each stands alone.
            Edit(_SCHEMA, '        sa.CheckConstraint("on_hand >= held", name="stock_available"),\n', ""),
        ),
    ),
    _one(
        "sum-per-line",
        "two lines of one SKU are judged one by one",
        "inventory_service/domain/reservation.py",
        "        return tuple(Line(sku, sums[sku]) for sku in sorted(sums))\n",
        "        return tuple({line.sku: line for line in self.lines}[sku] for sku in sorted(sums))\n",
    ),
    _one(
        "expired-holds-are-committed",
        "a unit is sold that somebody else has bought meanwhile",
        _BOOK,
        "                return self._commit(self._lapse(standing), request)",
        "                return self._commit(standing, request)",
    ),
    _one(
        "stock-returned-by-halves",
        "what is refunded stays sold",
        _BOOK,
        "            self._move_on_hand(standing, sign=1, reason=RETURN, actor=request.actor)\n",
        "",
    ),
    _one(
        "counters-without-the-ledger",
        "stock changes and nobody can say why",
        "inventory_service/store/stock.py",
        "    await insert_rows(connection, movements, [_values(movement) for movement in rows])\n",
        "",
    ),
    _one(
        "sold-on-belief-alone",
        "a hold that has ended meanwhile is sold",
        "inventory_service/store/reservations.py",
        '{"state": [State.HELD.value], "epoch": [epoch]}',
        '{"epoch": [epoch]}',
    ),
    _one(
        "settled-on-belief-alone",
        "what was put into the cart during the checkout is lost",
        "cart_service/store.py",
        'values, {"version": [version]})',
        "values, {})",
    ),
    _one(
        "captured-before-it-is-recorded",
        "money is taken for an order that is called off",
        "checkout_service/engine.py",
        "            report = await self._next_report(stride.ahead)\n            await self._recorded(stride)\n",
        "            report = await self._next_report(stride.ahead)\n",
    ),
    _one(
        "unsorted-locks",
        "crossed carts deadlock",
        "inventory_service/store/stock.py",
        "    return [_LOCKED.asked(skus=keys) for keys in _in_parts(sorted(skus))]",
        "    return [_LOCKED.asked(skus=[sku]) for sku in dict.fromkeys(skus)]",
        hunter="contention",
    ),
    _one(
        "look-up-taken-for-proof",
        "a payment that arrives after it was asked for stays with an order that failed",
        _SAGA,
        "        _O.NOT_FOUND: Step(_S.AUTHORIZING, again=True),\n",
        "        _O.NOT_FOUND: Step(_S.RELEASING, fails_as=_TIMEOUT),\n",
    ),
    _one(
        "unknown-taken-for-declined",
        "an order fails whose money is set aside",
        "checkout_service/commands.py",
        "    PaymentStatus.UNKNOWN: Outcome.UNKNOWN,\n",
        "    PaymentStatus.UNKNOWN: Outcome.DECLINED,\n",
    ),
    _one(
        "new-key-for-each-try",
        "a customer is charged twice",
        "checkout_service/commands.py",
        "                payment_key=order.order_id,\n",
        '                payment_key=f"{order.order_id[:-2]}{course.saga.authorizations:02}",\n',
    ),
    Mutation(
        "capture-before-commit",
        "money is taken for stock that is gone",
        (
            Edit(
                _SAGA,
                "    _O.AUTHORIZED: Step(_S.COMMITTING, order=OrderState.AUTHORIZED, goes_on=True, meanwhile=True),\n",
                "    _O.AUTHORIZED: Step(_S.CAPTURING, order=OrderState.AUTHORIZED),\n",
            ),
        ),
    ),
    Mutation(
        "unrecorded-authorization-forgotten",
        "money that was asked for on a way that was not recorded stays set aside",
        tuple(
            Edit(
                _SAGA,
                f"        _O.{outcome}: Step(_S.VOIDING, fails_as={end}),\n{behind}",
                f"        _O.{outcome}: Step(_S.RELEASING, fails_as={end}),\n{behind}",
            )
            for outcome, end, behind in (
                ("GAVE_UP", "_EXPIRED", ""),
                ("CALLED_OFF", "_CALLED_OFF", "    },\n    _S.AUTHORIZING: {"),
            )
        ),
    ),
    _one(
        "no-release-after-a-decline",
        "stock stays held by orders that failed",
        _SAGA,
        "    _O.DECLINED: Step(_S.RELEASING, fails_as=_DECLINED),\n",
        "    _O.DECLINED: Step(_S.UNDONE, fails_as=_DECLINED),\n",
    ),
    _one(
        "no-void",
        "money stays set aside for orders that ended unpaid",
        "checkout_service/commands.py",
        "        result = await self._provider.cancel(course.order.order_id)\n",
        "        result = await self._provider.look_up(course.order.order_id)\n"
        "        return Report(outcome=Outcome.VOIDED, payment_id=result.payment_id)\n",
    ),
    _one(
        "refund-forgotten",
        "the stock of a cancelled order comes back, the money does not",
        _SAGA,
        "        _O.RELEASED: Step(_S.REFUNDING),\n",
        "        _O.RELEASED: Step(_S.UNDONE),\n",
    ),
    _one(
        "wish-not-looked-at",
        "an order that was cancelled is charged and shipped",
        _SAGA,
        "    if not saga.wish or step.state in UNDOING:\n        return step\n",
        "    return step\n",
    ),
    _one(
        "key-without-caller",
        "a stranger's key answers with somebody else's order",
        "checkout_service/domain.py",
        '        return f"{owner}/{self.request_id}"\n',
        '        return f"{owner[:5]}/{self.request_id}"\n',
    ),
    _one(
        "key-not-taken",
        "a click too many is an order too many",
        "checkout_service/placing.py",
        "        ours = [wish for wish in wishes if standing[wish.request.key] == wish.order_id]\n",
        "        ours = list(first.values())\n",
    ),
    _one(
        "fingerprint-not-compared",
        "a key answers for another cart or card",
        "checkout_service/service.py",
        "        if key.fingerprint != request.fingerprint:\n",
        "        if not key.fingerprint:\n",
    ),
    _one(
        "claim-not-looked-at",
        "one cart is bought twice",
        "checkout_service/placing.py",
        '        if holder[cart_id] not in ("", wish.order_id):\n',
        "        if not cart_id:\n",
    ),
    _one(
        "claim-not-freed",
        "a cart whose payment failed can never be ordered again",
        _SAGA_STORE,
        "    await _free_claims(connection, [move for move in moves if move.frees_claim])\n",
        "",
    ),
    _one(
        "check-outside-the-transaction",
        "a claim is judged by what was read before it was locked",
        "checkout_service/placing.py",
        "        elif wish.cart.version <= claims[cart_id].ordered_version:\n",
        "        elif not claims:\n",
    ),
    _one(
        "settled-twice",
        "what was put into the cart after the order is taken out of it",
        "cart_service/domain.py",
        "        return command.order_id in books.settlements\n",
        "        return False\n",
    ),
    _one(
        "swallowed-commit-error",
        "what was acknowledged is not there",
        "mesh/db.py",
        "        await transaction.commit()\n    except BaseException:\n",
        "        await transaction.commit()\n    except DBAPIError:\n        await connection.invalidate()\n"
        "    except BaseException:\n",
    ),
    _one(
        "answer-before-commit",
        "a customer is told PAID, and then it is not so",
        "checkout_service/engine.py",
        "            await saga_store.apply_believed(connection, _moves(ways), self._encode)\n",
        "            await saga_store.apply_believed(connection, _moves(ways), self._encode)\n"
        "            for move in _moves(ways):\n"
        "                self._tell(move.after)\n",
    ),
    _one(
        "answer-not-kept",
        "a repetition is answered with something else",
        _SAGA_STORE,
        "    await insert_if_absent(connection, answers, [_answer_row(order, encode) for order in answering])\n",
        "",
    ),
    _one(
        "event-not-written",
        "an order changes and its history does not show it",
        _SAGA_STORE,
        "    await insert_events(connection, changed)\n",
        "    await insert_events(connection, [order for order in changed if order.state is not OrderState.PAID])\n",
    ),
    _one(
        "no-take-over",
        "orders of a process that died stay where they are",
        "checkout_service/lease_store.py",
        "    orphaned = owners - alive - {owner, OPERATOR}\n",
        "    orphaned = owners - owners\n",
    ),
    _one(
        "take-over-without-a-new-epoch",
        "the process that was thought dead goes on moving its sagas",
        "checkout_service/lease_store.py",
        "epoch=sagas.c.epoch + 1, next_attempt_time=None)\n",
        "epoch=sagas.c.epoch, next_attempt_time=None)\n",
    ),
)
