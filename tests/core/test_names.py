"""Names at the door."""

from __future__ import annotations

import pytest

from coordinator.core import keys, names
from coordinator.core.errors import InvalidInput, NotFound

NOW = 1_700_000_000_000
BAD = ["", " ", "a b", "a:b", "a{b}", "a\n", "\na", "é", "-a", ".a", "/a", "a*", "a\x00", "a" * 10_000, "٣"]


@pytest.mark.parametrize("name", ["digits", "meta-llama/Llama-3.1-8B", "a", "0", "a" * 200, "A_b.c-d/e"])
def test_models_as_the_field_writes_them(name: str) -> None:
    assert names.check_model(name) == name


@pytest.mark.parametrize("name", [*BAD, "a" * 201])
def test_model_names_that_could_break_a_key(name: str) -> None:
    with pytest.raises(InvalidInput) as error:
        names.check_model(name)
    assert len(str(error.value)) < 400
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["w", "host-1.example", "A_1", "a" * 100])
def test_worker_ids(name: str) -> None:
    assert names.check_worker(name) == name


@pytest.mark.parametrize("name", [*BAD, "a/b", "a" * 101])
def test_worker_ids_that_could_break_a_key(name: str) -> None:
    with pytest.raises(InvalidInput):
        names.check_worker(name)


def test_request_ids_are_unique_and_tell_their_key() -> None:
    ids = names.request_ids(3, NOW, 1000)
    assert len(set(ids)) == 1000
    for request_id in ids:
        partition, bucket, random = names.parse_request_id(request_id, 4)
        assert (partition, bucket) == (3, NOW // 1000 // keys.BUCKET_SECONDS)
        assert len(random) == 16


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "nonsense",
        "0-1-abc",
        "4-1-aaaaaaaaaaaaaaaa",  # no such partition
        "00-1-aaaaaaaaaaaaaaaa",
        "0-0-aaaaaaaaaaaaaaaa",
        "0-1-AAAAAAAAAAAAAAAA",
        "0-1-aaaaaaaaaaaaaaaa\n",
        " 0-1-aaaaaaaaaaaaaaaa",
        "0-1-aaaaaaaaaaaaaaaa}",
        "0-99999999999-aaaaaaaaaaaaaaaa",
        "-1-1-aaaaaaaaaaaaaaaa",
        "0-1-" + "a" * 10_000,
    ],
)
def test_ids_that_we_did_not_make_name_nothing(text: str) -> None:
    with pytest.raises(NotFound) as error:
        names.parse_request_id(text, 4)
    assert len(str(error.value)) < 200


def test_an_idempotency_key_gives_the_same_id_within_a_bucket() -> None:
    one = names.request_id_from(b"0123456789", 2, NOW)
    assert one == names.request_id_from(b"0123456789abc", 2, NOW)
    assert one != names.request_id_from(b"0123456788", 2, NOW)
    assert names.parse_request_id(one, 4).partition == 2


@pytest.mark.parametrize("host", ["host", "my host_1", "--", "", "ünïcode", "x" * 300])
def test_a_new_worker_id_is_valid_whatever_the_host_is_called(host: str) -> None:
    one, other = names.new_worker_id(host), names.new_worker_id(host)
    assert names.check_worker(one) == one
    assert one != other


def test_lives_differ() -> None:
    assert names.new_incarnation() != names.new_incarnation()
