"""What the coordinator tells a worker when it registers."""

from __future__ import annotations

import msgspec

from coordinator.core.membership import Placement
from coordinator.core.settings import Settings


class Policy(msgspec.Struct):
    """What a worker has to know to behave as the deployment does. Times in seconds."""

    inline_bytes: int
    max_attempts: int
    max_job_lifetime_seconds: float
    dead_retention_seconds: float
    backoff_base_seconds: float
    backoff_cap_seconds: float

    @property
    def lifetime_ms(self) -> int:
        return int(self.max_job_lifetime_seconds * 1000)

    @property
    def dead_retention_ms(self) -> int:
        return int(self.dead_retention_seconds * 1000)

    @classmethod
    def of(cls, settings: Settings) -> Policy:
        """The policy that these settings make."""
        return cls(
            inline_bytes=settings.inline_bytes,
            max_attempts=settings.max_attempts,
            max_job_lifetime_seconds=settings.max_job_lifetime,
            dead_retention_seconds=settings.dead_retention,
            backoff_base_seconds=settings.backoff_base,
            backoff_cap_seconds=settings.backoff_cap,
        )


class Registered(msgspec.Struct):
    """The answer to a registration."""

    worker_id: str
    incarnation: str
    lease_seconds: float
    heartbeat_seconds: float
    redis_url: str
    partitions: int
    models: dict[str, Placement]
    settings: Policy
