"""The path grammar of google/api/http.proto.

Template = "/" Segments [ Verb ] ;
Segments = Segment { "/" Segment } ;
Segment  = "*" | "**" | LITERAL | Variable ;
Variable = "{" FieldPath [ "=" Segments ] "}" ;
FieldPath = IDENT { "." IDENT } ;
Verb     = ":" LITERAL ;
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote

ONE = "*"
MANY = "**"

_TOKEN = re.compile(r"\*\*|[*/{}=:]|[^*/{}=:]+")
_FIELD_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_LITERAL = re.compile(r"(?:[A-Za-z0-9._~!$&'()+,;@-]|%[0-9A-Fa-f]{2})+")
_RESERVED = "|".join(f"{ord(char):02X}" for char in "!#$&'()*+,/:;=?@[]%")
# What stands for other characters than those.
_ESCAPE = re.compile(rf"(?:%(?!{_RESERVED})[0-9A-F]{{2}})+", re.IGNORECASE)


class TemplateError(ValueError):
    """The path is not in the grammar; the text says where."""


@dataclass(frozen=True, slots=True)
class Variable:
    """Binds the segments from `start` up to `end` (None: up to the last) to the field named by `path`."""

    path: str
    start: int
    end: int | None
    single: bool

    def value(self, segments: Sequence[str]) -> str:
        """The bound text of raw path segments, percent-decoded once.

        A variable of exactly one segment is decoded wholly; in one of several, reserved characters stay encoded, so
        that a "/" within a segment cannot be mistaken for one between segments. Raises UnicodeDecodeError.
        """
        if self.single:
            return decode(segments[self.start])
        return "/".join(_decode_unreserved(segment) for segment in segments[self.start : self.end])


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed path: literals (decoded), ONE and MANY in order; the verb without its colon, or ""."""

    segments: tuple[tuple[str, bool], ...]
    """(text, is_wildcard): a literal "*" cannot be written, but a decoded one could look like it."""
    verb: str
    variables: tuple[Variable, ...]

    @property
    def shape(self) -> tuple[tuple[tuple[str, bool], ...], str]:
        """What the template matches, whatever its variables are called."""
        return self.segments, self.verb


def decode(segment: str) -> str:
    """Percent-decode one segment. Raises UnicodeDecodeError for what is not UTF-8."""
    return unquote(segment, errors="strict") if "%" in segment else segment


def parse(text: str) -> Template:
    """Parse a path. Raises TemplateError with the reason."""
    if not text.startswith("/"):
        raise TemplateError("a path starts with '/'")
    return _Parser(text).template()


def _decode_unreserved(segment: str) -> str:
    return _ESCAPE.sub(lambda match: unquote(match.group(), errors="strict"), segment) if "%" in segment else segment


class _Parser:
    """Recursive descent over the tokens of one path."""

    def __init__(self, text: str) -> None:
        self._tokens = _TOKEN.findall(text)
        self._at = 0
        self._segments: list[tuple[str, bool]] = []
        self._variables: list[Variable] = []

    def template(self) -> Template:
        self._expect("/")
        self._segments_until_end(in_variable=False)
        verb = ""
        if self._peek() == ":":
            self._at += 1
            verb = self._literal()
        if self._peek():
            raise TemplateError(f"unexpected {self._peek()!r}")
        self._check()
        return Template(segments=tuple(self._segments), verb=verb, variables=tuple(self._variables))

    def _segments_until_end(self, *, in_variable: bool) -> None:
        self._segment(in_variable=in_variable)
        while self._peek() == "/":
            self._at += 1
            self._segment(in_variable=in_variable)

    def _segment(self, *, in_variable: bool) -> None:
        text = self._peek()
        if text in (ONE, MANY):
            self._at += 1
            self._segments.append((text, True))
        elif text == "{":
            if in_variable:
                raise TemplateError("a variable stands within a variable")
            self._variable()
        else:
            self._segments.append((self._literal(), False))

    def _variable(self) -> None:
        self._expect("{")
        path = self._take()
        if not _FIELD_PATH.fullmatch(path):
            raise TemplateError(f"{path!r} is not a field path")
        start = len(self._segments)
        if self._peek() == "=":
            self._at += 1
            self._segments_until_end(in_variable=True)
        else:
            self._segments.append((ONE, True))
        self._expect("}")
        bound = self._segments[start:]
        many = (MANY, True) in bound
        self._variables.append(
            Variable(
                path=path,
                start=start,
                end=None if many else len(self._segments),
                single=len(bound) == 1 and not many,
            )
        )

    def _literal(self) -> str:
        text = self._take()
        if not _LITERAL.fullmatch(text):
            raise TemplateError(f"{text!r} is not a literal" if text else "a segment is empty")
        try:
            return decode(text)
        except UnicodeDecodeError as error:
            raise TemplateError(f"{text!r} is not UTF-8") from error

    def _check(self) -> None:
        if (MANY, True) in self._segments[:-1]:
            raise TemplateError("'**' may only be the last segment")
        paths = [variable.path for variable in self._variables]
        for path in sorted({path for path in paths if paths.count(path) > 1}):
            raise TemplateError(f"{path!r} is bound twice")

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._peek()
        self._at += 1
        return token

    def _expect(self, wanted: str) -> None:
        token = self._take()
        if token != wanted:
            raise TemplateError(f"expected {wanted!r}, found {token or 'the end'!r}")
