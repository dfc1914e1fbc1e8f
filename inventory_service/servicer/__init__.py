"""Between the messages of shop.inventory.v1 and the use cases; nothing else."""

import grpc

Context = grpc.aio.ServicerContext[object, object]
