"""What the ProtoJSON specification and its conformance suite say of each kind of value, case by case."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

from gateway.codec import Codec, JsonForm, parse
from gateway.descriptors import load, message_class
from gateway.errors import Violation
from gateway.json_text import GivenTwiceError
from gateway.texts import UnwritableError
from tests.gateway.probe import HERE, compile_protos


class Kinds:
    """Messages of kinds.proto from JSON and to it."""

    def __init__(self, descriptor_set: bytes) -> None:
        self.pool = load(descriptor_set).pool
        self.new: Any = message_class(self.pool.FindMessageTypeByName("kinds.v1.Kinds"))
        self._codec = Codec(self.pool, JsonForm(emit_defaults=False))

    def violations(self, text: str) -> list[Violation]:
        return self._codec.reader.read(parse(text.encode()), self.new())

    def violations_of(self, value: Any) -> list[Violation]:
        return self._codec.reader.read(value, self.new())

    def read(self, text: str) -> Any:
        message = self.new()
        assert self._codec.reader.read(parse(text.encode()), message) == []
        return message

    def written(self, message: Message) -> str:
        return self._codec.writer.text(message).decode()


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Kinds:
    folder: Path = tmp_path_factory.mktemp("kinds")
    return Kinds(compile_protos(folder, kinds=(HERE / "kinds.proto").read_text()))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('{"anInt32": 100000.000}', {"an_int32": 100_000}),
        ('{"anInt32": 1e5}', {"an_int32": 100_000}),
        ('{"anInt32": 2.147483647e9}', {"an_int32": 2_147_483_647}),
        ('{"aUint32": 4.294967295E+9}', {"a_uint32": 4_294_967_295}),
        ('{"anInt32": "1e5"}', {"an_int32": 100_000}),
        ('{"anInt32": "-0"}', {}),
        ('{"anInt32": -0}', {}),
        ('{"anInt64": "9223372036854775807"}', {"an_int64": 9_223_372_036_854_775_807}),
        ('{"anInt64": 9223372036854775807}', {"an_int64": 9_223_372_036_854_775_807}),
        ('{"anInt64": "9.223372036854775807e18"}', {"an_int64": 9_223_372_036_854_775_807}),
        ('{"aUint64": 18446744073709551615}', {"a_uint64": 18_446_744_073_709_551_615}),
        ('{"aDouble": "1.5e3"}', {"a_double": 1500.0}),
        ('{"aDouble": -1.7976931348623157e308}', {"a_double": -1.7976931348623157e308}),
        ('{"aDouble": 1e-999}', {}),
        ('{"aDouble": "Infinity"}', {"a_double": float("inf")}),
        ('{"aFloat": "-Infinity"}', {"a_float": float("-inf")}),
        ('{"aFloat": 3.4028235e38}', {"a_float": 3.4028234663852886e38}),
        ('{"aFloat": 1e-60}', {}),
        ('{"aBytes": "-_"}', {"a_bytes": b"\xfb"}),
        ('{"aBytes": "AQI"}', {"a_bytes": b"\1\2"}),
        ('{"aBytes": "AQI="}', {"a_bytes": b"\1\2"}),
        ('{"aSize": "SIZE_SMALL"}', {"a_size": 1}),
        ('{"aSize": 1}', {"a_size": 1}),
        ('{"aSize": 1.0}', {"a_size": 1}),
        ('{"aSize": 77}', {"a_size": 77}),
        ('{"anAlias": "ALIAS_SECOND"}', {"an_alias": 1}),
        ('{"aNull": null}', {}),
        ('{"oneNull": null}', {"one_null": 0}),
        ('{"oneNull": "NULL_VALUE"}', {"one_null": 0}),
        ('{"nulls": [null, "NULL_VALUE", 0]}', {"nulls": [0, 0, 0]}),
        ('{"oneNumber": null, "oneText": "a"}', {"one_text": "a"}),
        ('{"oneText": "a", "oneNumber": null}', {"one_text": "a"}),
        ('{"oneText": ""}', {"one_text": ""}),
        ('{"oneLeaf": {}}', {"one_leaf": {}}),
        ('{"strings": null, "byString": null, "aLeaf": null, "aTime": null, "aStruct": null, "anAny": null}', {}),
        ('{"structs": null, "values": null, "lists": null}', {}),
        ('{"maybeInt64": "0"}', {"maybe_int64": 0}),
        ('{"maybe_int64": 0}', {"maybe_int64": 0}),
        ('{"@other-name": "a"}', {"named": "a"}),
        ('{"named": "a"}', {"named": "a"}),
        ('{"byBool": {"true": false, "f\\u0061lse": true}}', {"by_bool": {True: False, False: True}}),
        ('{"byInt32": {"-1": "a", "\\u0031": "b"}}', {"by_int32": {-1: "a", 1: "b"}}),
        ('{"aString": "\\ud83d\\ude01"}', {"a_string": "😁"}),
        ('{"aString": "a\\u0000b"}', {"a_string": "a\0b"}),
        ('{"wrappedInt64": "0", "wrappedString": ""}', {"wrapped_int64": {"value": 0}, "wrapped_string": {}}),
        ('{"anEmpty": {}}', {"an_empty": {}}),
    ],
)
def test_what_is_allowed_is_read(kinds: Kinds, text: str, wanted: dict[str, Any]) -> None:
    assert kinds.read(text) == kinds.new(**wanted)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('{"anInt32": 1.5}', "anInt32"),
        ('{"anInt32": 2147483648}', "anInt32"),
        ('{"anInt32": "01"}', "anInt32"),
        ('{"anInt32": "+1"}', "anInt32"),
        ('{"anInt32": " 1"}', "anInt32"),
        ('{"anInt32": "1 "}', "anInt32"),
        ('{"anInt32": "1_0"}', "anInt32"),
        ('{"anInt32": "٣"}', "anInt32"),
        ('{"anInt32": ""}', "anInt32"),
        ('{"anInt32": "3x3"}', "anInt32"),
        ('{"anInt32": [1]}', "anInt32"),
        ('{"anInt64": "9007199254740993.5"}', "anInt64"),
        ('{"anInt64": 9223372036854775808}', "anInt64"),
        ('{"anInt64": -9223372036854775809}', "anInt64"),
        ('{"aUint64": 18446744073709551616}', "aUint64"),
        ('{"aUint64": -1}', "aUint64"),
        ('{"int64s": [1, false]}', "int64s[1]"),
        ('{"int64s": [1, null]}', "int64s[1]"),
        ('{"int64s": 1}', "int64s"),
        ('{"strings": ["1", 2]}', "strings[1]"),
        ('{"leaves": [{}, 2]}', "leaves[1]"),
        ('{"leaves": [null]}', "leaves[0]"),
        ('{"leaves": {}}', "leaves"),
        ('{"leaves": [{}, {"next": {"someNumber": "x"}}]}', "leaves[1].next.someNumber"),
        ('{"aDouble": 1.89769e+308}', "aDouble"),
        ('{"aDouble": -1.89769e+308}', "aDouble"),
        ('{"aDouble": "1e999"}', "aDouble"),
        ('{"aDouble": "nan"}', "aDouble"),
        ('{"aDouble": "inf"}', "aDouble"),
        ('{"aDouble": ""}', "aDouble"),
        ('{"aFloat": 3.502823e+38}', "aFloat"),
        ('{"aFloat": -3.502823e+38}', "aFloat"),
        ('{"aBool": "true"}', "aBool"),
        ('{"aBool": 0}', "aBool"),
        ('{"byBool": {"True": true}}', "byBool[True]"),
        ('{"byBool": {"1": true}}', "byBool[1]"),
        ('{"byInt32": {"1": "a", "1.0": "b"}}', "byInt32[1.0]"),
        ('{"byInt32": {"01": "a"}}', "byInt32[01]"),
        ('{"byInt32": {"1": null}}', "byInt32[1]"),
        ('{"byString": {"a": null}}', "byString[a]"),
        ('{"byString": {"a": {"next": {"next": 1}}}}', "byString[a].next.next"),
        ('{"aBytes": "A"}', "aBytes"),
        ('{"aBytes": "AQ="}', "aBytes"),
        ('{"aBytes": "AQI=="}', "aBytes"),
        ('{"aBytes": "A Q I ="}', "aBytes"),
        ('{"aSize": "size_small"}', "aSize"),
        ('{"aSize": "1"}', "aSize"),
        ('{"aSize": true}', "aSize"),
        ('{"aSize": ["SIZE_SMALL"]}', "aSize"),
        ('{"aSize": 1.5}', "aSize"),
        ('{"aNull": 1}', "aNull"),
        ('{"aNull": "null"}', "aNull"),
        ('{"aString": 12345}', "aString"),
        ('{"aString": "\\ude01\\ud83d"}', "aString"),
        ('{"byString": {"\\ud800": {}}}', "byString[\ud800]"),
        ('{"aLeaf": []}', "aLeaf"),
        ('{"oneNumber": 1, "oneText": "a"}', "oneText"),
        ('{"oneNull": null, "oneText": "a"}', "oneText"),
        ('{"oneValue": null, "oneLeaf": {}}', "oneLeaf"),
        ('{"maybeInt64": 1, "maybe_int64": 1}', "maybeInt64"),
        ('{"maybeInt64": null, "maybe_int64": 1}', "maybeInt64"),
        ('{"AString": "a"}', "AString"),
        ('{"aLeaf": {"some-text": ""}}', "aLeaf.some-text"),
        ('{"wrappedUint32": -1}', "wrappedUint32"),
        ('{"manyWrapped": [null]}', "manyWrapped[0]"),
        ('{"anEmpty": {"a": 1}}', "anEmpty.a"),
    ],
)
def test_what_is_not_is_refused_by_name(kinds: Kinds, text: str, field: str) -> None:
    assert [violation.field for violation in kinds.violations(text)] == [field]


@pytest.mark.parametrize(
    ("text", "seconds", "nanos"),
    [
        ("1970-01-01T00:00:00Z", 0, 0),
        ("0001-01-01T00:00:00Z", -62_135_596_800, 0),
        ("9999-12-31T23:59:59.999999999Z", 253_402_300_799, 999_999_999),
        ("1969-12-31T23:59:59.9Z", -1, 900_000_000),
        ("1970-01-01T00:00:00.000000001Z", 0, 1),
        ("1970-01-01T08:00:01+08:00", 1, 0),
        ("1969-12-31T16:00:01-08:00", 1, 0),
        ("1970-01-01T00:00:00-11:30", 41_400, 0),
        ("0001-01-01T00:00:00-00:01", -62_135_596_740, 0),
        ("9999-12-31T23:59:59+00:01", 253_402_300_739, 0),
        ("2000-02-29T00:00:00Z", 951_782_400, 0),
    ],
)
def test_times_are_read(kinds: Kinds, text: str, seconds: int, nanos: int) -> None:
    assert kinds.read(f'{{"aTime": "{text}"}}') == kinds.new(a_time={"seconds": seconds, "nanos": nanos})


@pytest.mark.parametrize(
    "text",
    [
        "0000-01-01T00:00:00Z",
        "10000-01-01T00:00:00Z",
        "999-01-01T00:00:00Z",
        "0001-01-01T00:00:00",
        "0001-01-01 00:00:00Z",
        "0001-01-01t00:00:00Z",
        "0001-01-01T00:00:00z",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "1970-01-01T08:00:01+0800",
        "1970-01-01T08:00:01+08",
        "1970-01-01T00:00:00+24:00",
        "1970-01-01T00:00:00+00:60",
        "1970-01-01T00:00:00Z+01:00",
        "1970-13-01T00:00:00Z",
        "1970-00-01T00:00:00Z",
        "1970-01-32T00:00:00Z",
        "1970-01-00T00:00:00Z",
        "1970-1-01T00:00:00Z",
        "2001-02-29T00:00:00Z",
        "1970-01-01T24:00:00Z",
        "1970-01-01T00:60:00Z",
        "1970-01-01T00:00:60Z",
        "1970-01-01T00:00Z",
        "1970-01-01T00:00:00.Z",
        "1970-01-01T00:00:00,5Z",
        "1970-01-01T00:00:00.1234567890Z",
        "1970-01-01T00:00:00.123aZ",
        "1970-W01-1T00:00:00Z",
        "\uff11970-01-01T00:00:00Z",
        "1970-01-01T00:00:00Z\\n",
        " 1970-01-01T00:00:00Z",
        "",
    ],
)
def test_what_is_no_time_is_refused(kinds: Kinds, text: str) -> None:
    assert [violation.field for violation in kinds.violations(f'{{"times": ["{text}"]}}')] == ["times[0]"]


@pytest.mark.parametrize(
    ("text", "seconds", "nanos"),
    [
        ("0s", 0, 0),
        ("1.5s", 1, 500_000_000),
        ("-1.5s", -1, -500_000_000),
        ("-0.5s", 0, -500_000_000),
        ("0.000000001s", 0, 1),
        ("315576000000.999999999s", 315_576_000_000, 999_999_999),
        ("-315576000000.999999999s", -315_576_000_000, -999_999_999),
    ],
)
def test_spans_are_read_and_written(kinds: Kinds, text: str, seconds: int, nanos: int) -> None:
    message = kinds.read(f'{{"aSpan": "{text}"}}')
    assert message == kinds.new(a_span={"seconds": seconds, "nanos": nanos})
    assert kinds.read(kinds.written(message)) == message


@pytest.mark.parametrize(
    "text",
    [
        *("", "s", "1", "1.s", ".5s", "+1s", "- 1s", "1 s", "1S", "1e3s", "1.1234567890s", "1.5.5s", "--1s", "٣s"),
        *("315576000001s", "-315576000001s", "315576000001.000000000s"),
    ],
)
def test_what_is_no_span_is_refused(kinds: Kinds, text: str) -> None:
    assert [violation.field for violation in kinds.violations(f'{{"aSpan": "{text}"}}')] == ["aSpan"]


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("", []),
        ("foo,barBaz", ["foo", "bar_baz"]),
        ("fooBar.bazQux2,*", ["foo_bar.baz_qux2", "*"]),
    ],
)
def test_masks_are_read_and_written(kinds: Kinds, text: str, paths: list[str]) -> None:
    message = kinds.read(f'{{"aMask": "{text}"}}')
    assert message == kinds.new(a_mask={"paths": paths})
    assert kinds.written(message) == f'{{"aMask":"{text}"}}'


@pytest.mark.parametrize("text", ["foo,bar_bar", "foo,,bar", ",", "foo, bar", "_foo"])
def test_what_is_no_mask_is_refused(kinds: Kinds, text: str) -> None:
    assert [violation.field for violation in kinds.violations(f'{{"masks": ["", "{text}"]}}')] == ["masks[1]"]


@pytest.mark.parametrize(
    "members",
    [
        {"a_mask": {"paths": ["fooBar"]}},
        {"a_mask": {"paths": ["foo_3_bar"]}},
        {"a_mask": {"paths": ["foo__bar"]}},
        {"a_mask": {"paths": ["foo_"]}},
        {"a_mask": {"paths": ["a", ""]}},
        {"a_mask": {"paths": ["a,b"]}},
        {"a_time": {"seconds": -62_135_596_801}},
        {"a_time": {"seconds": 253_402_300_800}},
        {"a_time": {"seconds": 5_000, "nanos": -1}},
        {"a_time": {"seconds": 5_000, "nanos": 1_000_000_000}},
        {"a_span": {"seconds": 315_576_000_001}},
        {"a_span": {"seconds": -315_576_000_001}},
        {"a_span": {"seconds": 1, "nanos": -1}},
        {"a_span": {"seconds": -1, "nanos": 1}},
        {"a_span": {"nanos": 1_000_000_000}},
        {"a_value": {"number_value": float("nan")}},
        {"a_value": {"number_value": float("-inf")}},
        {"an_any": {"value": b"a"}},
        {"an_any": {"type_url": "kinds.v1.Leaf"}},
        {"an_any": {"type_url": "example.com/kinds.v1.Unheard"}},
        {"an_any": {"type_url": "example.com/kinds.v1.Leaf", "value": b"\xff"}},
    ],
)
def test_what_json_has_no_form_for_is_not_written(kinds: Kinds, members: dict[str, Any]) -> None:
    with pytest.raises(UnwritableError):
        kinds.written(kinds.new(**members))


@pytest.mark.parametrize(
    "text",
    [
        '{"aStruct":{}}',
        '{"aStruct":{"a":null,"b":1234.0,"c":true,"d":"x","e":[1.5,"5",[],{}],"f":{"value":0.0}}}',
        '{"aValue":null}',
        '{"aValue":[null,{"a":null}]}',
        '{"aList":[]}',
        '{"values":[null,[["a"]],{},""]}',
        '{"lists":[["a"],[]]}',
        '{"valuesByName":{"a":null,"b":{"c":[]}}}',
        '{"oneValue":null}',
    ],
)
def test_any_json_is_kept(kinds: Kinds, text: str) -> None:
    message = kinds.read(text)
    assert kinds.written(message) == text
    assert kinds.new.FromString(message.SerializeToString()) == message


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('{"aStruct": []}', "aStruct"),
        ('{"aStruct": {"a": [1, {"b": 1e999}]}}', "aStruct[a][1][b]"),
        ('{"aStruct": {"a": 1' + "0" * 400 + "}}", "aStruct[a]"),
        ('{"aStruct": {"a": "\\ud800"}}', "aStruct[a]"),
        ('{"aList": {}}', "aList"),
        ('{"aList": "a"}', "aList"),
        ('{"structs": [{}, null]}', "structs[1]"),
        ('{"lists": [null]}', "lists[0]"),
    ],
)
def test_what_no_value_holds_is_refused_by_name(kinds: Kinds, text: str, field: str) -> None:
    assert [violation.field for violation in kinds.violations(text)] == [field]


@pytest.mark.parametrize(
    "text",
    [
        '{"anAny":{}}',
        '{"anAny":{"@type":"type.googleapis.com/kinds.v1.Leaf","someText":"a","next":{"someNumber":"1"}}}',
        '{"anAny":{"@type":"type.googleapis.com/google.protobuf.Empty"}}',
        '{"anAny":{"@type":"type.googleapis.com/google.protobuf.Duration","value":"1.500s"}}',
        '{"anAny":{"@type":"type.googleapis.com/google.protobuf.Int32Value","value":12345}}',
        '{"anAny":{"@type":"type.googleapis.com/google.protobuf.FieldMask","value":"foo,barBaz"}}',
        '{"anAny":{"@type":"type.googleapis.com/google.protobuf.Struct","value":{"foo":1.0}}}',
        '{"anAny":{"@type":"type.googleapis.com/google.protobuf.Value","value":null}}',
        '{"anAny":{"@type":"a/google.protobuf.Any","value":{"@type":"example.com/a/kinds.v1.Leaf","someText":"a"}}}',
        '{"anys":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"OUT","metadata":{"sku":"a"}}]}',
        '{"anysByName":{"a":{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"1s"}}}',
    ],
)
def test_packed_messages_are_read_and_written(kinds: Kinds, text: str) -> None:
    assert kinds.written(kinds.read(text)) == text


def test_the_type_of_a_packed_message_may_stand_anywhere(kinds: Kinds) -> None:
    one = kinds.read('{"anAny": {"someText": "a", "@type": "example.com/kinds.v1.Leaf", "some_number": 1}}')
    assert kinds.written(one) == '{"anAny":{"@type":"example.com/kinds.v1.Leaf","someText":"a","someNumber":"1"}}'


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ('{"anAny": []}', ["anAny"]),
        ('{"anAny": {"someText": "a"}}', ["anAny.@type"]),
        ('{"anAny": {"@type": ""}}', ["anAny.@type"]),
        ('{"anAny": {"@type": null}}', ["anAny.@type"]),
        ('{"anAny": {"@type": "not_a_url", "value": ""}}', ["anAny.@type"]),
        ('{"anAny": {"@type": "kinds.v1.Leaf"}}', ["anAny.@type"]),
        ('{"anAny": {"@type": "example.com/kinds.v1.Unheard"}}', ["anAny.@type"]),
        ('{"anAny": {"@type": "example.com/google.rpc.Unheard"}}', ["anAny.@type"]),
        ('{"anAny": {"@type": "example.com/ErrorInfo"}}', ["anAny.@type"]),
        ('{"anAny": {"@type": "example.com/"}}', ["anAny.@type"]),
        ('{"anAny": {"@type": "example.com/\\ud800"}}', ["anAny.@type"]),
        (
            '{"anys": [{"@type": "example.com/kinds.v1.Leaf", "next": {"a": 1, "someNumber": ""}}]}',
            ["anys[0].next.a", "anys[0].next.someNumber"],
        ),
        ('{"anAny": {"@type": "example.com/google.protobuf.Duration"}}', ["anAny.value"]),
        ('{"anAny": {"@type": "example.com/google.protobuf.Duration", "value": null}}', ["anAny.value"]),
        ('{"anAny": {"@type": "example.com/google.protobuf.Duration", "value": "1s", "a": 1}}', ["anAny.a"]),
        ('{"anAny": {"@type": "example.com/google.protobuf.Any", "value": {"a": 1}}}', ["anAny.value.@type"]),
        (
            '{"anysByName": {"a": {"@type": "example.com/kinds.v1.Leaf", "next": {"next": 1}}}}',
            ["anysByName[a].next.next"],
        ),
    ],
)
def test_what_is_no_packed_message_is_refused_by_name(kinds: Kinds, text: str, fields: list[str]) -> None:
    assert [violation.field for violation in kinds.violations(text)] == fields


def test_an_unheard_of_type_is_named(kinds: Kinds) -> None:
    (violation,) = kinds.violations('{"anAny": {"@type": "example.com/kinds.v1.Unheard"}}')
    assert "kinds.v1.Unheard" in violation.description


_NESTED = {
    "messages": ('{"aLeaf": ', '{"next": ', "{}", "}", "}"),
    "structs": ('{"aStruct": {"n": ', '{"n": ', "1", "}", "}}"),
    "lists": ('{"aValue": ', "[", "1", "]", "}"),
    "maps of messages": ('{"byString": {"a": ', '{"next": ', "{}", "}", "}}"),
    "maps of values": ('{"valuesByName": {"a": ', "[", "true", "]", "}}"),
}


@pytest.mark.parametrize("kind", _NESTED)
def test_what_is_read_can_be_parsed_by_whoever_gets_it(kinds: Kinds, kind: str) -> None:
    head, opening, core, closing, tail = _NESTED[kind]
    texts = [head + opening * levels + core + closing * levels + tail for levels in range(201)]
    read = [text for text in texts if not kinds.violations(text)]
    assert read == texts[: len(read)]
    assert 26 <= len(read) <= 101
    for text in read:
        message = kinds.read(text)
        assert kinds.new.FromString(message.SerializeToString()) == message
        assert kinds.read(kinds.written(message)) == message
    assert ["too deep" in one.description for one in kinds.violations(texts[-1])] == [True]


def test_an_any_in_an_any_ends_somewhere(kinds: Kinds) -> None:
    opening = '{"@type": "example.com/google.protobuf.Any", "value": '
    text = '{"anAny": ' + opening * 150 + "{}" + "}" * 151
    assert ["too deep" in one.description for one in kinds.violations(text)] == [True]


def test_beside_something_wrong_only_what_the_path_may_contradict_is_filled_in(kinds: Kinds) -> None:
    message = kinds.new()
    codec = Codec(kinds.pool)
    assert codec.reader.read({"aString": "a", "leaves": [{"someText": "a"}, 1], "byString": {"a": 1}}, message) != []
    assert message == kinds.new(a_string="a")


def test_one_field_of_each_form_is_read_alone(kinds: Kinds) -> None:
    message, codec = kinds.new(), Codec(kinds.pool, JsonForm(emit_defaults=False))
    values: dict[str, Any] = {
        "a_string": "a",
        "a_leaf": {"someText": "b"},
        "strings": ["c"],
        "leaves": [{}],
        "by_int32": {"1": "d"},
        "a_time": "1970-01-01T00:00:01Z",
        "a_struct": {"e": None},
        "an_any": {"@type": "example.com/google.protobuf.Empty"},
    }
    for name, value in values.items():
        field = kinds.new.DESCRIPTOR.fields_by_name[name]
        assert codec.reader.read_field(value, message, field) == []
        assert parse(codec.writer.field(field)(message)) == value


@pytest.mark.parametrize("text", ['{"%s": %s}', '{"%s": [%s]}', '{"%s": {"1": %s}}', '{"%s": {"a": [{"a": %s}]}}'])
def test_no_kind_of_field_takes_members_that_are_given_twice(kinds: Kinds, text: str) -> None:
    for field in kinds.new.DESCRIPTOR.fields:
        with pytest.raises(GivenTwiceError) as raised:
            parse((text % (field.json_name, '{"a": null, "a": null}')).encode())
        assert kinds.violations_of(raised.value.value), field.name
