"""What google.api.field_behavior says of fields, as AIP-203 has it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool

from gateway.descriptors import extension, message_class

REQUIRED, OUTPUT_ONLY, INPUT_ONLY = 2, 3, 4
"""Numbers of google.api.FieldBehavior."""

Behaviors = Callable[[FieldDescriptor], frozenset[int]]
"""From a field to the numbers of its behaviors."""


def behaviors(pool: DescriptorPool) -> Behaviors:
    """The behaviors of the pool's fields: none if it does not hold the option."""
    behavior = extension(pool, "google.api.field_behavior")
    if behavior is None:
        return lambda _: frozenset()
    options = message_class(behavior.containing_type)

    @cache
    def of(field: FieldDescriptor) -> frozenset[int]:
        # Read anew, since descriptors have their options of the pool that this process has by default.
        own: Any = options.FromString(field.GetOptions().SerializeToString())
        return frozenset(own.Extensions[behavior])

    return of
