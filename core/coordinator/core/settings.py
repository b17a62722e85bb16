"""Every setting, read from `COORDINATOR_*` environment variables; one place, with unit and default."""

from __future__ import annotations

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """What every process of one deployment shares. Times are in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(env_prefix="COORDINATOR_", extra="ignore")

    redis_url: str = Field(default="redis://127.0.0.1:6379/0", description="The Redis that holds everything.")
    advertise_redis_url: str = Field(
        default="",
        description="What registering workers are told to connect to; empty: `redis_url` without its password.",
    )
    partitions: int = Field(default=1, ge=1, le=16384, description="How many partitions; fixed once a Redis was used.")
    redis_patience: float = Field(
        default=1.5, gt=0, description="How long a step is tried again before Redis counts as away."
    )

    lease_seconds: float = Field(default=10.0, gt=0, description="A worker not heard of for so long is lost.")
    heartbeat_seconds: float = Field(default=2.5, gt=0, description="How often a worker renews its lease.")
    max_job_lifetime: float = Field(
        default=3600.0, gt=0, description="A job that waits longer after submission expires."
    )
    result_retention: float = Field(default=3600.0, gt=0, description="How long an outcome is kept, at the least.")
    dead_retention: float = Field(default=7 * 86400.0, gt=0, description="How long a dead letter is kept.")
    max_dead: int = Field(
        default=100_000, ge=1, description="How many dead letters are kept per partition; the oldest go."
    )
    worker_retention: float = Field(default=600.0, gt=0, description="How long a lost worker is still listed.")

    max_backlog: int = Field(default=100_000, ge=1, description="Jobs waiting per model; more are refused.")
    max_memory_percent: float = Field(
        default=90.0, gt=0, le=100, description="Above it (of maxmemory) new jobs are refused."
    )
    max_body_bytes: int = Field(default=1 << 20, ge=1, description="The largest body of one job.")
    max_batch_bytes: int = Field(default=32 << 20, ge=1, description="The largest body of one batch.")
    max_batch_jobs: int = Field(default=1000, ge=1, description="The most jobs in one batch request.")
    inline_bytes: int = Field(
        default=2048, ge=0, description="Larger inputs and outputs are kept out of line, as blobs."
    )

    default_timeout: float = Field(
        default=30.0, gt=0, description="A job's time limit, when neither job nor model says."
    )
    max_attempts: int = Field(default=3, ge=1, description="How often a job is tried, when it doesn't say.")
    max_crashes: int = Field(default=3, ge=1, description="A job that took down so many workers is poison.")
    backoff_base: float = Field(
        default=1.0, gt=0, description="The first wait before a retry; each next one is twice as long."
    )
    backoff_cap: float = Field(default=60.0, gt=0, description="The longest wait before a retry.")
    overdue_grace: float = Field(
        default=2.0, gt=0, description="A live worker's job is taken away so long after its time limit."
    )

    durability: str = Field(
        default="memory",
        pattern="^(memory|replicated|fsync)$",
        description="When a job counts as accepted: in Redis's memory, on a replica (WAIT), or on disk (WAITAOF).",
    )
    durability_wait: float = Field(
        default=2.5,
        gt=0,
        description="How long a replica or the disk may take to confirm; `appendfsync everysec` alone takes up to a second.",
    )

    assign_batch: int = Field(default=160, ge=1, le=1000, description="The most jobs that one assign moves.")

    api_host: str = Field(default="127.0.0.1", description="Where the API listens.")
    api_port: int = Field(default=8000, ge=0, le=65535)
    max_wait: float = Field(default=60.0, gt=0, description="The longest that a result is waited for in one request.")
    drain_seconds: float = Field(default=25.0, ge=0, description="How long a stopping worker may finish what it runs.")

    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")
    log_format: str = Field(default="auto", pattern="^(auto|json|console)$", description="auto: console on a terminal.")

    @model_validator(mode="after")
    def _fit_together(self) -> Settings:
        if self.heartbeat_seconds * 2 > self.lease_seconds:
            raise ValueError(
                "heartbeat_seconds must be at most half of lease_seconds, or a late heartbeat costs a lease"
            )
        return self
