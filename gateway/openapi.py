"""An OpenAPI 3.1 document of the routes, from descriptors and their comments.

Methods that nobody serves yet are left out, although they are routed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from gateway import descriptors
from gateway.behavior import behaviors
from gateway.comments import comments
from gateway.encode import DEFAULT_FORM, JsonForm
from gateway.fields import (
    HTTP_BODY,
    is_map,
    is_plain_message,
    is_repeated,
    message_of,
    resolve,
    takes_entries,
    takes_text,
)
from gateway.openapi_http import HEADERS, header_parameters, many, responses
from gateway.routes import Route
from gateway.schemas import ERROR, Schema, Schemas, Ways
from gateway.streams import NDJSON, SSE
from gateway.template import MANY, Template
from gateway.transcode import derives_mask

_ERROR = "Error"
_BEARER = {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}
_TOKEN: Mapping[str, Any] = {"bearer": []}
# By access; whoever is named otherwise needs a token.
_SECURITY: Mapping[str, Sequence[Mapping[str, Any]]] = {"": (), "public": (), "owner": ({}, _TOKEN)}
_METHODS = ("GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE")


class OpenApi:
    """Makes the document of one schema."""

    def __init__(
        self, schema: descriptors.Schema, *, title: str, form: JsonForm = DEFAULT_FORM, is_limited: bool = False
    ) -> None:
        """`is_limited` tells that there are rates which answers tell of."""
        self._is_limited = is_limited
        self._title = title
        self._form = form
        self._comments = comments(schema.files)
        parts = self._comments, form, behaviors(schema.pool)
        self._components: dict[str, Schema] = {}
        self._answers = Schemas(self._components, *parts)
        self._requests = Schemas(self._components, *parts, of_requests=True)
        self._paths: dict[str, dict[str, Any]] = {}
        self._names: dict[Any, tuple[str, list[str]]] = {}

    def document(self, routes: Sequence[Route]) -> Mapping[str, Any]:
        """The document of these routes."""
        served = [route for route in routes if _is_described(route)]
        seen: set[str] = set()
        for route in served:
            path, names = self._path(route.template)
            operation = self._operation(route, names)
            operation["operationId"] = _unique(operation["operationId"], seen)
            self._paths.setdefault(path, {})[route.rule.http_method.lower()] = operation
        services = dict.fromkeys(route.method.service for route in served)
        return {
            "openapi": "3.1.0",
            "info": {"title": self._title, "version": "1"},
            "tags": [self._tag(service) for service in services],
            "paths": self._paths,
            "components": self._all_components(served),
        }

    def _all_components(self, served: Iterable[Route]) -> Mapping[str, Any]:
        guarded = any(route.method.access for route in served)
        schemas = {_ERROR: ERROR, **self._components}
        return {"schemas": schemas, "headers": HEADERS, **({"securitySchemes": _BEARER} if guarded else {})}

    def _tag(self, service: str) -> Mapping[str, str]:
        text = self._comments.get(service)
        return {"name": _short(service), **({"description": text} if text else {})}

    def _path(self, template: Template) -> tuple[str, list[str]]:
        """The path in OpenAPI's words and the names of its parameters, the same for templates of one shape."""
        if template.shape not in self._names:
            wildcards = list(_wildcards(template))
            names = iter(wildcards)
            parts = [f"{{{next(names)}}}" if wildcard else text for text, wildcard in template.segments]
            verb = f":{template.verb}" if template.verb else ""
            self._names[template.shape] = "/" + "/".join(parts) + verb, wildcards
        return self._names[template.shape]

    def _operation(self, route: Route, names: Sequence[str]) -> dict[str, Any]:
        method, rule = route.method, route.rule
        operation: dict[str, Any] = {
            "operationId": f"{_short(method.service)}_{method.name}",
            "tags": [_short(method.service)],
            "parameters": [
                *self._path_parameters(route, names),
                *self._query_parameters(route),
                *header_parameters(route),
            ],
            "responses": responses(
                route,
                self._response(route),
                _json({"$ref": f"#/components/schemas/{_ERROR}"}),
                is_limited=self._is_limited,
            ),
        }
        operation |= self._texts(method)
        security = _SECURITY.get(method.access, (_TOKEN,))
        if security:
            operation["security"] = list(security)
        if rule.body:
            operation["requestBody"] = self._request(route)
        return operation

    def _texts(self, method: descriptors.Method) -> Mapping[str, str]:
        text = self._comments.get(method.full_name, "")
        summary = {"summary": text.partition(". ")[0].rstrip(".")} if text else {}
        tier = f"Access: {method.access}." if method.access else ""
        description = "\n\n".join(part for part in (text, tier) if part)
        return summary | ({"description": description} if description else {})

    def _path_parameters(self, route: Route, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        fields = _wildcard_fields(route)
        for name, field in zip(names, fields, strict=True):
            schema = {"type": "string"} if field is None else self._requests.value(field)
            text = "" if field is None else self._comments.get(field.full_name, "")
            parameter = {"name": name, "in": "path", "required": True, "schema": schema}
            yield {**parameter, "description": text} if text else parameter

    def _query_parameters(self, route: Route) -> Iterator[Mapping[str, Any]]:
        if route.rule.body == "*":
            return
        bound = {variable.path for variable in route.template.variables}
        for way in _leaves(route.method.input, skip={*bound, route.rule.body}):
            schema = self._requests.field(way[-1])
            parameter: dict[str, Any] = {"name": self._form.path(way), "in": "query", "schema": schema}
            if is_map(way[-1]):
                parameter |= {"style": "deepObject", "explode": True}
            if all(map(self._requests.requires, way)):
                parameter["required"] = True
            text = schema.pop("description", "") if "$ref" not in schema else schema.get("description", "")
            yield {**parameter, "description": text} if text else parameter

    def _request(self, route: Route) -> Mapping[str, Any]:
        message, many_come = route.method.input, route.method.client_streaming
        field = message.fields_by_name.get(route.rule.body)
        bound = [resolve(message, variable.path) for variable in route.template.variables]
        within = bound if field is None else [way[1:] for way in bound if way[0] == field]
        # Who changes a resource may leave out what it requires, if that is not to change (AIP-203).
        schemas = self._answers if derives_mask(route) else self._requests
        content = _content(schemas, message, field, (NDJSON,) if many_come else None, within)
        given = {way[0] for way in bound}
        held = message.fields if field is None else [field]
        # Many may be none.
        is_required = not many_come and any(self._requests.requires(one) and one not in given for one in held)
        return {"content": content, **({"required": True} if is_required else {})}

    def _response(self, route: Route) -> Mapping[str, Any]:
        field = route.method.output.fields_by_name.get(route.rule.response_body)
        forms = (NDJSON, SSE) if route.method.server_streaming else None
        return _content(self._answers, route.method.output, field, forms)


def _is_described(route: Route) -> bool:
    method = route.method
    return not method.planned and route.rule.http_method in _METHODS


def _content(
    schemas: Schemas,
    message: Descriptor,
    field: FieldDescriptor | None,
    forms: Sequence[bytes] | None,
    bound: Ways = (),
) -> Mapping[str, Any]:
    """A body of one message, or of many, which has these forms besides an array."""
    kind = message if field is None else field.message_type
    if kind is not None and kind.full_name == HTTP_BODY:
        # Whatever the upstream says it is.
        return {"*/*": {}}
    schema = schemas.message(message, bound) if field is None else schemas.field(field, bound)
    return _json(schema) if forms is None else many(schema, *forms)


def _json(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"application/json": {"schema": schema}}


def _short(service: str) -> str:
    return service.rpartition(".")[2]


def _unique(name: str, seen: set[str]) -> str:
    number = 1
    candidate = name
    while candidate in seen:
        number += 1
        candidate = f"{name}_{number}"
    seen.add(candidate)
    return candidate


def _wildcards(template: Template) -> Iterator[str]:
    """A parameter's name for each wildcard: its variable's, numbered where that has several."""
    for at, (_, wildcard) in enumerate(template.segments):
        if not wildcard:
            continue
        variable = next((one for one in template.variables if _covers(one.start, one.end, at)), None)
        if variable is None:
            yield f"segment_{at + 1}"
            continue
        within = [
            i for i, (_, wild) in enumerate(template.segments) if wild and _covers(variable.start, variable.end, i)
        ]
        yield variable.path if len(within) == 1 else f"{variable.path}_{within.index(at) + 1}"


def _wildcard_fields(route: Route) -> Iterator[FieldDescriptor | None]:
    """The field that each wildcard is the whole value of, or None."""
    template = route.template
    for at, (text, wildcard) in enumerate(template.segments):
        if wildcard:
            whole = (one for one in template.variables if one.single and one.start == at and text != MANY)
            variable = next(whole, None)
            yield None if variable is None else resolve(route.method.input, variable.path)[-1]


def _covers(start: int, end: int | None, at: int) -> bool:
    return start <= at and (end is None or at < end)


def _leaves(
    message: Descriptor, *, skip: Iterable[str], way: tuple[FieldDescriptor, ...] = ()
) -> Iterator[tuple[FieldDescriptor, ...]]:
    """The ways to the fields that a query can carry. A message within itself is not entered again."""
    inside = {one.containing_type for one in way}
    for field in message.fields:
        here = (*way, field)
        if ".".join(one.name for one in here) in skip:
            continue
        if takes_text(field) or takes_entries(field):
            yield here
        elif is_plain_message(field) and not is_repeated(field) and message_of(field) not in inside:
            yield from _leaves(message_of(field), skip=skip, way=here)
