"""The statements of the inventory database. Functions of a connection; none commits.

Locks are taken in one order by all who write: reservations by id, keys of adjustments, then stock by SKU, each in byte
order and by primary key. So writers wait for each other and do not deadlock, in one process or in many.
"""

from sqlalchemy.ext.asyncio import AsyncConnection

# What use cases hand from `transact` to the functions here, without a look inside.
Connection = AsyncConnection
