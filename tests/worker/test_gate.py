"""The gate: who may start, when suspects are about."""

from __future__ import annotations

from coordinator.worker.deliveries import Delivery
from coordinator.worker.gate import Gate


class Model:
    """A model's service, as the gate sees it."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.held = 0
        self.running: list[int] = []
        self.told = False
        gate.starters.append(self)

    @property
    def busy(self) -> int:
        return self.held

    def deliver(self, *numbers: int, suspects: tuple[int, ...] = ()) -> None:
        deliveries = [Delivery(number, b"1000-%d" % number, b"", b"1", b"", b"", 30.0, 0.0) for number in numbers]
        for number, delivery in zip(numbers, deliveries, strict=True):
            delivery.crashed = number in suspects
        self.held += len(deliveries)
        self.gate.admit(self, deliveries)

    def start(self, deliveries: list[Delivery]) -> None:
        self.running += [delivery.order[1] for delivery in deliveries]

    def hold(self) -> None:
        self.told = True

    def start_held(self, deliveries: list[Delivery]) -> None:
        assert self.told
        assert not any(delivery.held for delivery in deliveries)
        self.start(deliveries)

    def finish(self, *numbers: int) -> None:
        for number in numbers:
            self.running.remove(number)
        self.held -= len(numbers)
        self.gate.pump()


def test_without_suspects_all_start() -> None:
    model = Model(Gate())
    model.deliver(1, 2)
    model.deliver(3)
    assert model.running == [1, 2, 3]
    assert not model.gate.closed


def test_a_suspect_waits_for_those_before_it_and_those_behind_wait_for_it() -> None:
    model = Model(Gate())
    model.deliver(1, 2, 3, 4, suspects=(3,))
    assert model.running == [1, 2]
    model.finish(1)
    assert model.running == [2]
    model.finish(2)
    assert model.running == [3]
    model.deliver(5)
    assert model.running == [3]
    model.finish(3)
    assert model.running == [4, 5]
    assert not model.gate.closed


def test_suspects_run_one_by_one() -> None:
    model = Model(Gate())
    model.deliver(1, 2, 3, suspects=(1, 2, 3))
    for number in (1, 2, 3):
        assert model.running == [number]
        model.finish(number)
    assert model.running == []
    model.deliver(4)
    assert model.running == [4]


def test_it_holds_for_all_models_in_the_order_of_entries() -> None:
    gate = Gate()
    first, second = Model(gate), Model(gate)
    first.deliver(1)
    first.deliver(5, suspects=(5,))
    second.deliver(4, 6)
    # What came before the suspect may start, though another model's inbox brought it later.
    assert (first.running, second.running) == ([1], [4])
    first.finish(1)
    second.finish(4)
    assert (first.running, second.running) == ([5], [])
    first.finish(5)
    assert (first.running, second.running) == ([], [6])


def test_what_waits_can_be_taken_out() -> None:
    gate = Gate()
    first, second = Model(gate), Model(gate)
    first.deliver(1, 2, 4, suspects=(2,))
    second.deliver(3)
    assert [delivery.order[1] for delivery in gate.clear(first)] == [2, 4]
    first.held -= 2
    first.finish(1)
    assert second.running == [3]
