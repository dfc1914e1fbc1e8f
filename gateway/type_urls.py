"""What the URL in a google.protobuf.Any names."""

from __future__ import annotations

from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.rpc import error_details_pb2

_DETAILS = error_details_pb2.DESCRIPTOR


def find_type(pool: DescriptorPool, url: str) -> Descriptor | None:
    """The message type of the last segment: of the pool, or a detail of google.rpc, which any error may have.

    None when it is neither, and for what is no URL.
    """
    _, slash, name = url.rpartition("/")
    if not slash or not name.isascii():
        return None
    try:
        return pool.FindMessageTypeByName(name)
    except KeyError:
        package, _, detail = name.rpartition(".")
        known: Descriptor | None = _DETAILS.message_types_by_name.get(detail)
        return known if package == _DETAILS.package else None
