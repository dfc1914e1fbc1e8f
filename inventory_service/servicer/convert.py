"""What both servicers speak of."""

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp


def timestamp(moment: datetime) -> Timestamp:
    """An aware time as a message."""
    message = Timestamp()
    message.FromDatetime(moment)
    return message
