"""Redis URLs: standalone, sentinel and cluster."""

from __future__ import annotations

import pytest

from coordinator.core.errors import Misconfigured
from coordinator.core.topology import Cluster, Direct, Sentinels, sources, without_password


@pytest.mark.parametrize(
    ("url", "kinds"),
    [
        ("redis://127.0.0.1:6379/0", [Direct]),
        ("redis://user:p%40ss@host", [Direct]),
        ("rediss://host:1/2", [Direct]),
        ("unix:///tmp/redis.sock", [Direct]),
        ("redis://a:1/0,redis://b:2/0, redis://c:3/0", [Direct, Direct, Direct]),
        ("redis+sentinel://a:1,b:2,c/mymaster", [Sentinels]),
        ("redis+sentinel://:secret@a/mymaster/3", [Sentinels]),
        ("redis+cluster://a:7000,b:7001", [Cluster]),
        ("rediss+cluster://user:secret@a:7000", [Cluster]),
    ],
)
def test_a_url_says_how_redis_is_run(url: str, kinds: list[type]) -> None:
    assert [type(source) for source in sources(url)] == kinds


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host:6379",
        "http://host",
        "redis://host:port",
        "redis+sentinel://a:1",
        "redis+sentinel://a:b/mymaster",
        "redis+cluster://",
        "redis+cluster://a:1,:2",
        "redis+magic://a",
    ],
)
def test_a_url_that_can_not_be_read_is_misconfigured(url: str) -> None:
    with pytest.raises(Misconfigured):
        sources(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:secret@host:1/2", "redis://host:1/2"),
        ("redis://host:1/2", "redis://host:1/2"),
        ("redis://:s3cret@a,rediss://u:p@b/1", "redis://a,rediss://b/1"),
        ("redis+sentinel://u:secret@a:1,b:2/mymaster", "redis+sentinel://a:1,b:2/mymaster"),
        ("redis+cluster://u:p@ss@a:1,b:2", "redis+cluster://a:1,b:2"),
    ],
)
def test_a_password_is_not_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown
