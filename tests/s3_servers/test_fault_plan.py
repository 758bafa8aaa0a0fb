"""The plan of faults: a function of its seed, logged, and replayed from the log."""

from __future__ import annotations

import random
from itertools import groupby

import pytest

from support.s3_servers.faults import Decision, Fault, FaultPlan, Logged, Script, SeededPlan
from support.s3_servers.operations import Operation
from support.s3_servers.seeds import fault_seeds, seed_for


def decisions(plan: FaultPlan, operation: Operation, count: int = 200) -> list[Decision]:
    return [plan.decide(operation) for _ in range(count)]


def test_the_same_seed_decides_the_same_and_another_seed_something_else() -> None:
    first = decisions(SeededPlan(17), Operation.GET)
    assert decisions(SeededPlan(17), Operation.GET) == first
    assert decisions(SeededPlan(18), Operation.GET) != first


def test_decisions_do_not_depend_on_how_operations_are_interleaved() -> None:
    one, other = SeededPlan(17), SeededPlan(17)
    gets, puts = decisions(one, Operation.GET), decisions(one, Operation.CONDITIONAL_PUT)
    order = [Operation.GET] * 200 + [Operation.CONDITIONAL_PUT] * 200
    random.Random(1).shuffle(order)
    mixed = [(operation, other.decide(operation)) for operation in order]
    assert [made for operation, made in mixed if operation is Operation.GET] == gets
    assert [made for operation, made in mixed if operation is not Operation.GET] == puts
    assert gets != puts


@pytest.mark.parametrize("operation", Operation)
def test_every_fault_comes_to_every_operation(operation: Operation) -> None:
    met = {made.fault for seed in range(20) for made in decisions(SeededPlan(seed), operation)}
    assert met == {None, *Fault}


def test_about_as_many_faults_begin_as_the_rate_says() -> None:
    plan = SeededPlan(3, rate=0.2, without=frozenset(Fault) - {Fault.RESET_AFTER})
    plan._weights = [1.0 if fault is Fault.RESET_AFTER else 0.0 for fault in Fault]
    begun = sum(made.fault is not None for made in decisions(plan, Operation.GET, 2000))
    assert 300 < begun < 500


@pytest.mark.parametrize(
    "fault", [Fault.INTERNAL_ERROR, Fault.UNAVAILABLE, Fault.SLOW_DOWN, Fault.FORBIDDEN]
)
def test_refusals_come_in_bursts(fault: Fault) -> None:
    made = [each.fault for seed in range(20) for each in decisions(SeededPlan(seed), Operation.GET)]
    bursts = [len(list(run)) for found, run in groupby(made) if found is fault]
    assert max(bursts) > 2


def test_faults_that_are_left_out_do_not_happen_and_the_others_stay() -> None:
    everything = decisions(SeededPlan(5), Operation.GET, 1000)
    left_out = frozenset({Fault.DELIVERED_LATE, Fault.SLOW_DOWN})
    made = decisions(SeededPlan(5, without=left_out), Operation.GET, 1000)
    assert left_out < {each.fault for each in everything}
    assert made == [Decision() if each.fault in left_out else each for each in everything]


def test_no_fault_begins_past_the_horizon() -> None:
    late = decisions(SeededPlan(5, horizon=50), Operation.GET, 500)[60:]
    assert late == [Decision()] * 440


def test_the_log_replays_what_happened() -> None:
    plan = SeededPlan(23)
    operations = random.Random(4).choices(list(Operation), k=400)
    made = [plan.decide(operation) for operation in operations]
    lines = [str(fault) for fault in plan.log]
    assert len(lines) > 20
    again = Script(lines)
    assert [again.decide(operation) for operation in operations] == made
    assert again.log == plan.log


def test_a_line_of_the_log_says_operation_number_fault_and_amount() -> None:
    logged = Logged(Operation.CONDITIONAL_PUT, 7, Decision(Fault.TRUNCATED, 0.25))
    assert str(logged) == "conditional-put 7 truncated 0.25"
    assert Logged.parse(str(logged)) == logged


@pytest.mark.parametrize(
    ("said", "seeds"),
    [("", [1, 2, 3, 4]), ("2", [1, 2]), ("17,23", [17, 23]), ("17,", [17]), ("0", [])],
)
def test_seeds_are_a_count_or_a_list(
    monkeypatch: pytest.MonkeyPatch, said: str, seeds: list[int]
) -> None:
    monkeypatch.setenv("HF_AGENT_FAULT_SEEDS", said)
    assert fault_seeds(4) == seeds


def test_each_name_has_a_seed_of_its_own() -> None:
    assert seed_for(1, "a") == seed_for(1, "a")
    assert len({seed_for(1, "a"), seed_for(2, "a"), seed_for(1, "b")}) == 3
