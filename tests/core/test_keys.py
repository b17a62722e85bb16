"""Keys: a partition lives in one slot of a cluster, and all processes agree on which."""

from __future__ import annotations

import re

from redis.crc import key_slot

from coordinator.core import keys


def test_all_keys_of_a_partition_are_in_one_slot() -> None:
    made = [
        keys.base(7),
        keys.jobs(7, "a/b", "high"),
        keys.inbox(7, "w", "a/b"),
        keys.results(7, 5),
        keys.workers(7),
        keys.worker(7, "w"),
        keys.serving(7, "a"),
        keys.models(7),
        keys.cursor(7),
        keys.delayed(7),
        keys.parked(7),
        keys.dead(7),
        keys.dead_index(7),
        keys.wake(7),
        keys.starved(7),
        keys.waiters(7),
        keys.pressure(7),
        keys.blob(7, "7-1-a", "in"),
    ]
    assert len(set(made)) == len(made)
    assert {key_slot(key.encode()) for key in made} == {key_slot(b"7")}
    assert all(key.startswith(keys.base(7)) for key in made)


def test_the_partition_of_a_model_never_changes() -> None:
    """Part of the schema: another answer would hide all jobs of a model."""
    known = {"digits": 2, "echo": 2, "meta-llama/Llama-3.1-8B": 8}
    assert {model: keys.partition_of(model, 16) for model in known} == known
    assert keys.partition_of("digits", 1) == 0


def test_models_spread_over_the_partitions() -> None:
    used = {keys.partition_of(f"model-{i}", 8) for i in range(200)}
    assert used == set(range(8))


def test_every_key_says_its_type() -> None:
    for name, function in vars(keys).items():
        if getattr(function, "__module__", "") == keys.__name__ and name not in ("base", "partition_of"):
            kind = re.sub("[,:]", " ", function.__doc__).split()[0]
            assert kind in ("stream", "hash", "sorted", "set", "string", "pub/sub"), name
