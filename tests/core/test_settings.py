"""Settings: from the environment, and only those that fit together."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from coordinator.core.settings import Settings


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COORDINATOR_REDIS_URL", "redis://elsewhere:1/2")
    monkeypatch.setenv("COORDINATOR_MAX_ATTEMPTS", "7")
    settings = Settings()
    assert (settings.redis_url, settings.max_attempts) == ("redis://elsewhere:1/2", 7)


@pytest.mark.parametrize(
    ("lease", "heartbeat", "fits"), [(10, 5, True), (10, 2.5, True), (10, 5.1, False), (1, 2, False)]
)
def test_a_lease_outlives_one_late_heartbeat(lease: float, heartbeat: float, fits: bool) -> None:
    if fits:
        Settings(lease_seconds=lease, heartbeat_seconds=heartbeat)
    else:
        with pytest.raises(ValidationError, match="at most half of lease_seconds"):
            Settings(lease_seconds=lease, heartbeat_seconds=heartbeat)


def test_a_shorter_lease_needs_a_shorter_heartbeat() -> None:
    with pytest.raises(ValidationError):
        Settings(lease_seconds=2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("partitions", 0),
        ("max_backlog", 0),
        ("max_memory_percent", 101),
        ("durability", "eventually"),
        ("log_level", "loud"),
        ("api_port", 70_000),
        ("max_attempts", 0),
        ("assign_batch", 5000),
        ("default_timeout", -1),
    ],
)
def test_values_that_make_no_sense(name: str, value: object) -> None:
    with pytest.raises(ValidationError, match=name):
        Settings.model_validate({name: value})


def test_every_setting_says_what_it_is() -> None:
    unexplained = {name for name, info in Settings.model_fields.items() if not info.description}
    assert unexplained <= {"api_port", "log_level"}
