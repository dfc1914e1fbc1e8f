"""From descriptors to a trie of routes.

A path is matched segment by segment, a literal before `*` before `**`, with back-tracking, whatever the order of
registration. Rules that no request could tell apart, or that the request message cannot carry, are refused at start.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from gateway.descriptors import HttpRule, Method, Schema
from gateway.fields import FieldPathError, is_repeated, resolve, takes_text
from gateway.template import MANY, Template, TemplateError, decode, parse

T = TypeVar("T")
ANY_METHOD = "*"


@dataclass(frozen=True, slots=True)
class Route:
    """One lawful binding of one method."""

    method: Method
    rule: HttpRule
    template: Template


@dataclass(slots=True)
class _Node(Generic[T]):
    literals: dict[str, _Node[T]] = field(default_factory=dict)
    one: _Node[T] | None = None
    many: _Node[T] | None = None
    verbs: dict[str, dict[str, T]] = field(default_factory=dict)


class MethodNotAllowedError(Exception):
    """The path is served, but not with this HTTP method. `allow` lists those it is served with, sorted."""

    def __init__(self, allow: Iterable[str]) -> None:
        super().__init__()
        self.allow = sorted(allow)


class Router(Generic[T]):
    """Finds what is registered for a method and a path. Not to be changed once it serves."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()
        self._verbs: set[str] = set()

    def add(self, template: Template, http_method: str, target: T) -> T | None:
        """Register a target; answer the one that already stands there, which then stays."""
        node = self._root
        for text, wildcard in template.segments:
            node = _child(node, text, wildcard=wildcard)
        self._verbs.add(template.verb)
        methods = node.verbs.setdefault(template.verb, {})
        standing = methods.setdefault(http_method, target)
        return None if standing is target else standing

    def match(self, http_method: str, raw_path: str) -> tuple[T, list[str]] | None:
        """The target and the raw segments of a path that is still percent-encoded, or None.

        A verb that a template at this place has claims the text behind the last colon; otherwise the colon belongs to
        the segment. Raises MethodNotAllowedError, and UnicodeDecodeError for a path that is not UTF-8.
        """
        segments = raw_path[1:].split("/")
        stem, _, verb = segments[-1].rpartition(":")
        if verb and verb in self._verbs:
            verbal = [*segments[:-1], stem]
            target, allow = self._search(verbal, verb, http_method)
            if target is not None:
                return target, verbal
            if allow:
                raise MethodNotAllowedError(allow)
        target, allow = self._search(segments, "", http_method)
        if target is not None:
            return target, segments
        if allow:
            raise MethodNotAllowedError(allow)
        return None

    def _search(self, raw: list[str], verb: str, http_method: str) -> tuple[T | None, set[str]]:
        search = _Search([decode(segment) for segment in raw], verb, http_method)
        return _find(self._root, 0, search), search.allow


@dataclass(slots=True)
class _Search:
    """What is looked for, and which methods it could have been had with."""

    segments: list[str]
    verb: str
    http_method: str
    allow: set[str] = field(default_factory=set)


def _child(node: _Node[T], text: str, *, wildcard: bool) -> _Node[T]:
    if not wildcard:
        return node.literals.setdefault(text, _Node())
    if text == MANY:
        node.many = node.many or _Node()
        return node.many
    node.one = node.one or _Node()
    return node.one


def _find(node: _Node[T], at: int, search: _Search) -> T | None:
    target = None
    if at == len(search.segments):
        target = _choose(node, search)
    else:
        segment = search.segments[at]
        literal = node.literals.get(segment)
        if literal is not None:
            target = _find(literal, at + 1, search)
        if target is None and node.one is not None and segment:
            target = _find(node.one, at + 1, search)
    if target is None and node.many is not None:
        target = _choose(node.many, search)
    return target


def _choose(node: _Node[T], search: _Search) -> T | None:
    methods = node.verbs.get(search.verb)
    if methods is None:
        return None
    target = methods.get(search.http_method)
    if target is None and search.http_method == "HEAD":
        target = methods.get("GET")
    if target is None:
        target = methods.get(ANY_METHOD)
    if target is None:
        search.allow.update(methods)
        if "GET" in methods:
            search.allow.add("HEAD")
    return target


def build(schema: Schema, services: Iterable[str]) -> tuple[list[Route], list[str]]:
    """The routes of these services, and a line for every rule that is unlawful or ambiguous."""
    routes: list[Route] = []
    problems: list[str] = []
    taken: Router[Route] = Router()
    for service in services:
        for method in schema.services[service]:
            for rule in method.rules:
                try:
                    route = _route(method, rule)
                except (TemplateError, FieldPathError) as error:
                    problems.append(f"{_where(method, rule)}: {error}")
                    continue
                rival = taken.add(route.template, rule.http_method, route)
                if rival is None:
                    routes.append(route)
                else:
                    problems.append(
                        f"{_where(method, rule)}: matches the same requests as {_where(rival.method, rival.rule)}"
                    )
    return routes, problems


def _where(method: Method, rule: HttpRule) -> str:
    return f"{method.file}: {method.full_name}: {rule.http_method or 'no method'} {rule.path!r}"


def _route(method: Method, rule: HttpRule) -> Route:
    if not rule.http_method or not rule.path:
        raise TemplateError("a rule needs an HTTP method and a path")
    if rule.nested:
        raise TemplateError("additional_bindings nest only one level deep")
    template = parse(rule.path)
    _check_body(method, rule)
    for variable in template.variables:
        target = resolve(method.input, variable.path)[-1]
        if is_repeated(target) or not takes_text(target):
            raise FieldPathError(f"the path cannot carry field {variable.path!r}: it is repeated or a message")
        if variable.path == rule.body:
            raise FieldPathError(f"field {variable.path!r} is bound by the path and by the body")
    if rule.response_body:
        _top_level(method.output.full_name, rule.response_body, set(method.output.fields_by_name), "response_body")
    return Route(method=method, rule=rule, template=template)


def _check_body(method: Method, rule: HttpRule) -> None:
    if not rule.body:
        return
    if rule.http_method in ("GET", "HEAD"):
        raise FieldPathError(f"{rule.http_method} cannot have a body")
    if rule.body != "*":
        _top_level(method.input.full_name, rule.body, set(method.input.fields_by_name), "body")


def _top_level(message: str, name: str, names: set[str], what: str) -> None:
    if name not in names:
        raise FieldPathError(f"{what} names {name!r}, which is no field of {message}")
