"""See `client.fixtures`."""

from client.fixtures import (
    api,
    client,
    connections,
    free_port,
    hand,
    model,
    producer,
    shared_api,
    shared_redis_url,
    start_api,
)

__all__ = [
    "api",
    "client",
    "connections",
    "free_port",
    "hand",
    "model",
    "producer",
    "shared_api",
    "shared_redis_url",
    "start_api",
]
