"""Redis over TLS, in each of the ways of running it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from harness.clusters import Node, free_ports, running, server_binary, standalone, until

from coordinator.core.connection import Connections
from coordinator.core.errors import RedisUnavailable
from coordinator.core.settings import Settings

pytestmark = pytest.mark.end_to_end


def _speaks_tls() -> bool:
    probe = [server_binary(), "--port", "0", "--tls-port", "1", "--tls-cert-file", "missing"]
    said = subprocess.run(probe, capture_output=True, text=True, check=False)
    return "Bad directive" not in said.stdout + said.stderr


needs_tls = pytest.mark.skipif(
    shutil.which("openssl") is None or not _speaks_tls(), reason="needs openssl and a Redis built with TLS"
)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate of this machine's loopback, that vouches for itself."""
    made = tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", tmp_path / "key.pem", "-out", made], capture_output=True, check=True)
    return made


def tls(certificate: Path, port: int) -> list[str]:
    key = certificate.with_name("key.pem")
    files = ["--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-ca-cert-file", str(certificate)]
    return ["--tls-port", str(port), *files, "--tls-auth-clients", "no"]


async def works(url: str) -> bool:
    try:
        async with await Connections.open(Settings(redis_url=url), client_name="test") as connections:
            return bool(await connections.partitions[0].patiently(connections.partitions[0].redis.ping))
    except RedisUnavailable:
        return False


@needs_tls
async def test_a_server(tmp_path: Path, certificate: Path) -> None:
    (port,) = free_ports(1)
    async with standalone(tmp_path / "a", "--save", "", *tls(certificate, port)):
        assert await works(f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificate}")
        assert not await works(f"rediss://127.0.0.1:{port}")


@needs_tls
async def test_a_cluster(tmp_path: Path, certificate: Path) -> None:
    (port,) = free_ports(1)
    cluster = ["--cluster-enabled", "yes", "--tls-cluster", "yes"]
    async with standalone(tmp_path / "a", "--save", "", *cluster, *tls(certificate, port)) as node:
        await node.ask("CLUSTER", "ADDSLOTS", *range(16384))
        url = f"rediss+cluster://127.0.0.1:{port}?ssl_ca_certs={certificate}"
        await until(lambda: works(url), "the cluster is reached")


@needs_tls
async def test_sentinels(tmp_path: Path, certificate: Path) -> None:
    port, sentinel_port, plain = free_ports(3)
    home = tmp_path / "sentinel"
    home.mkdir()
    (home / "conf").write_text(f"sentinel monitor mymaster 127.0.0.1 {port} 1\ntls-replication yes\n")
    sentinel = Node(home, plain, str(home / "conf"), "--sentinel", *tls(certificate, sentinel_port))
    async with standalone(tmp_path / "a", "--save", "", *tls(certificate, port)), running([sentinel]):
        assert await works(f"rediss+sentinel://127.0.0.1:{sentinel_port}/mymaster?ssl_ca_certs={certificate}")
