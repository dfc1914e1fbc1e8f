"""JSON both ways, held against google.protobuf.json_format where that is right."""

import json
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.codec import Codec, JsonForm, parse
from gateway.descriptors import load, message_class
from tests.gateway.probe import HERE, compile_protos
from tests.gateway.random_messages import messages

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
INT32 = st.integers(-(1 << 31), (1 << 31) - 1)
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
INNER = st.recursive(
    st.fixed_dictionaries({}, optional={"text": TEXT, "number": INT32}),
    lambda inner: st.fixed_dictionaries({}, optional={"inner": inner, "inners": st.lists(inner, max_size=2)}),
    max_leaves=5,
)
EVERYTHING = st.fixed_dictionaries(
    {},
    optional={
        "text": TEXT,
        "number": INT32,
        "big_number": INT64,
        "natural": st.integers(0, (1 << 32) - 1),
        "big_natural": st.integers(0, (1 << 64) - 1),
        "flag": st.booleans(),
        "single": st.floats(width=32, allow_nan=False),
        "real": st.floats(allow_nan=False),
        "data": st.binary(max_size=8),
        "color": st.sampled_from([0, 1, 2, 77]),
        "inner": INNER,
        "list": st.lists(TEXT, max_size=3),
        "numbers": st.lists(INT32, max_size=3),
        "inners": st.lists(INNER, max_size=2),
        "counts": st.dictionaries(TEXT, INT64, max_size=3),
        "by_number": st.dictionaries(INT32, st.just({}), max_size=2),
        "maybe": INT32,
        "left": TEXT,
    },
)


@pytest.fixture(scope="module")
def codec(probe_set: bytes) -> Codec:
    return Codec(load(probe_set).pool)


@pytest.fixture(scope="module")
def everything(probe_set: bytes) -> type[Message]:
    return message_class(load(probe_set).pool.FindMessageTypeByName("probe.v1.Everything"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(values=EVERYTHING)
def test_messages_are_written_as_json_format_does_and_read_back(
    codec: Codec, everything: type[Message], values: dict[str, Any]
) -> None:
    message = everything(**values)
    written = codec.writer.text(message)
    assert json.loads(written) == json_format.MessageToDict(message, always_print_fields_with_no_presence=True)
    again = everything()
    assert codec.reader.read(json.loads(written), again) == []
    assert again.SerializeToString(deterministic=True) == message.SerializeToString(deterministic=True)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(values=EVERYTHING, defaults=st.booleans(), ints=st.booleans(), names=st.booleans())
def test_every_form_is_what_json_format_makes_of_it(
    probe_set: bytes, everything: type[Message], values: dict[str, Any], *, defaults: bool, ints: bool, names: bool
) -> None:
    message = everything(**values)
    form = JsonForm(emit_defaults=defaults, enums_as_ints=ints, proto_names=names)
    assert json.loads(Codec(load(probe_set).pool, form).writer.text(message)) == json_format.MessageToDict(
        message,
        always_print_fields_with_no_presence=defaults,
        use_integers_for_enums=ints,
        preserving_proto_field_name=names,
    )


_TIMES = st.builds(
    Timestamp,
    seconds=st.integers(-62_135_596_800, 253_402_300_799),
    nanos=st.integers(0, 999_999_999)
    | st.integers(0, 999_999).map(lambda micros: micros * 1_000)
    | st.integers(0, 999).map(lambda millis: millis * 1_000_000),
)


@settings(max_examples=300, deadline=None)
@given(at=_TIMES)
def test_a_time_is_written_as_the_runtime_writes_it(at: Timestamp) -> None:
    assert json.loads(Codec(at.DESCRIPTOR.file.pool).writer.text(at)) == at.ToJsonString()


@pytest.mark.parametrize(
    "at", [Timestamp(seconds=-62_135_596_801), Timestamp(seconds=253_402_300_800), Timestamp(nanos=-1)]
)
def test_a_time_that_json_cannot_tell_is_refused(at: Timestamp) -> None:
    with pytest.raises(ValueError, match=r"[Tt]imestamp|[Nn]anos"):
        Codec(at.DESCRIPTOR.file.pool).writer.text(at)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(
    name=st.sampled_from(["text", "number", "bigNumber", "flag", "real", "data", "color", "inner", "list", "counts"]),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda one: st.lists(one, max_size=2) | st.dictionaries(st.text(max_size=3), one, max_size=2),
        max_leaves=4,
    ),
)
def test_what_is_not_refused_json_format_takes_alike(
    codec: Codec, everything: type[Message], name: str, value: Any
) -> None:
    ours = everything()
    if codec.reader.read({name: value}, ours):
        return
    theirs = json_format.ParseDict({name: value}, everything())
    assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(deterministic=True)


@pytest.mark.parametrize(
    ("member", "value", "wanted"),
    [
        ("number", 1.0, 1),
        ("number", "1e2", 100),
        ("number", "-0", 0),
        ("bigNatural", 18446744073709551615, 18446744073709551615),
        ("real", "1.5", 1.5),
        ("real", 3, 3.0),
        ("color", 1, 1),
        ("color", 99, 99),
        ("data", "3q2-7w", b"\xde\xad\xbe\xef"),
        ("big_number", "5", 5),
    ],
)
def test_the_forms_that_proto_json_allows_are_read(
    codec: Codec, everything: type[Message], member: str, value: Any, wanted: Any
) -> None:
    message = everything()
    assert codec.reader.read({member: value}, message) == []
    assert wanted in [field_value for _, field_value in message.ListFields()] or wanted == 0


def test_values_of_equal_messages_have_equal_bytes(codec: Codec, everything: type[Message]) -> None:
    one = everything(counts={"a": 1, "b": 2, "c": 3})
    two = everything(counts={"c": 3, "b": 2, "a": 1})
    assert codec.writer.text(one) == codec.writer.text(two)


_NULLS = {"anull", "onenull"}
_SLOWLY = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    max_examples=100,
    deadline=None,
)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("kinds")
    pool = load(compile_protos(folder, kinds=(HERE / "kinds.proto").read_text())).pool
    return message_class(pool.FindMessageTypeByName("kinds.v1.Kinds"))


@_SLOWLY
@given(data=st.data(), defaults=st.booleans(), ints=st.booleans(), names=st.booleans())
def test_every_kind_of_field_is_written_as_json_format_does_and_read_back(
    kinds: Any, data: st.DataObject, *, defaults: bool, ints: bool, names: bool
) -> None:
    message, pool = data.draw(messages(kinds.DESCRIPTOR)), kinds.DESCRIPTOR.file.pool
    codec = Codec(pool, JsonForm(emit_defaults=defaults, enums_as_ints=ints, proto_names=names))
    text = codec.writer.text(message)
    theirs = json_format.MessageToDict(
        message,
        always_print_fields_with_no_presence=defaults,
        use_integers_for_enums=ints,
        preserving_proto_field_name=names,
        descriptor_pool=pool,
    )
    # A null is null, also where enums are numbers.
    assert json.loads(text) == theirs | {name: None for name in theirs if name.lower().replace("_", "") in _NULLS}
    again = kinds()
    assert codec.reader.read(parse(text), again) == []
    assert as_bytes(again) == as_bytes(message)


@_SLOWLY
@given(data=st.data())
def test_json_format_and_we_read_each_other(kinds: Any, data: st.DataObject) -> None:
    message, pool = data.draw(messages(kinds.DESCRIPTOR)), kinds.DESCRIPTOR.file.pool
    codec, ours = Codec(pool), kinds()
    theirs = json_format.Parse(codec.writer.text(message), kinds(), descriptor_pool=pool)
    text = json_format.MessageToJson(message, descriptor_pool=pool)
    assert codec.reader.read(parse(text.encode()), ours) == []
    assert as_bytes(ours) == as_bytes(theirs) == as_bytes(message)


def as_bytes(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)
