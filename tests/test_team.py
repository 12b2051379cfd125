"""How many threads a training's steps run on: tried out by a clock that is told what a step takes."""

from collections.abc import Callable, Iterator

import pytest
import torch

from vaelab.acceleration.threads import EVERY, FIRST, ROUND, ROUNDS, SHARE, Team
from vaelab.config import Config, TrainConfig
from vaelab.data.dataset import Dataset
from vaelab.training.fit import fit

TRIAL = 2 * ROUND * ROUNDS


class Machine:
    """A clock that steps move on by what they take on so many threads."""

    def __init__(self, takes: Callable[[int], float], threads: int) -> None:
        self.takes, self.threads, self.now = takes, threads, 100.0
        self.used: list[int] = []

    def team(self, *, steady: bool = False) -> Team:
        def use(threads: int) -> None:
            self.threads = threads

        return Team(self.threads, steady=steady, clock=lambda: self.now, set_threads=use)

    def step(self) -> None:
        self.used.append(self.threads)
        self.now += self.takes(self.threads)

    def steps_until(self, team: Team, seconds: float) -> list[int]:
        """Threads of each step of so many seconds."""
        end, before = self.now + seconds, len(self.used)
        while self.now < end:
            team.take(self.step)
        return self.used[before:]


def test_one_thread_where_waiting_for_one_another_takes_longer() -> None:
    machine = Machine(lambda threads: {2: 0.02, 1: 0.01}[threads], 2)
    used = machine.steps_until(machine.team(), 5)
    assert used[:FIRST] == [2] * FIRST
    assert used[FIRST : FIRST + TRIAL] == [*[2] * ROUND, *[1] * ROUND] * ROUNDS
    assert set(used[FIRST + TRIAL :]) == {1}


@pytest.mark.parametrize(("most", "best"), [(16, 4), (16, 16), (16, 1), (12, 3), (3, 3), (1, 1)])
def test_it_goes_on_the_same_way_while_that_helps(most: int, best: int) -> None:
    machine = Machine(lambda threads: 0.01 * (1 + abs(threads - best) / most), most)
    team = machine.team()
    machine.steps_until(team, 60)
    assert team.size == best
    assert min(machine.used) >= best // 2


def test_what_is_hardly_quicker_is_left_alone() -> None:
    machine = Machine(lambda threads: {2: 0.01, 1: 0.0097}[threads], 2)
    team = machine.team()
    used = machine.steps_until(team, 100)
    assert team.size == 2
    assert used.count(1) < 0.03 * len(used)


def test_it_is_tried_anew_as_the_machine_changes() -> None:
    machine = Machine(lambda threads: {2: 0.01, 1: 0.02}[threads], 2)
    team = machine.team()
    machine.steps_until(team, EVERY / 2)
    assert team.size == 2
    machine.takes = lambda threads: {2: 0.2, 1: 0.02}[threads]  # another program wants a core
    machine.steps_until(team, EVERY + TRIAL * 0.2)
    assert team.size == 1
    machine.takes = lambda threads: {2: 0.01, 1: 0.02}[threads]
    machine.steps_until(team, EVERY + TRIAL * 0.2)
    assert team.size == 2


@pytest.mark.parametrize("slow", [0.02, 1.0])
def test_trials_take_a_small_share_however_long_a_step_is(slow: float) -> None:
    machine = Machine(lambda threads: {2: slow / 2, 1: slow}[threads], 2)
    used = machine.steps_until(machine.team(), 20_000 * slow)
    assert 0 < used.count(1) * slow < (SHARE + 0.01) * 20_000 * slow


def test_a_limit_holds_until_it_is_lifted() -> None:
    machine = Machine(lambda threads: 0.01 / threads, 4)
    team = machine.team()
    machine.steps_until(team, 3)
    team.limit_to(3)
    assert max(machine.steps_until(team, 30)) <= 3
    team.limit_to(team.most)
    machine.steps_until(team, 30)
    assert team.size == 4
    team.limit_to(1)
    assert set(machine.steps_until(team, 30)) == {1}
    team.rest()
    assert machine.threads == 4


def test_a_steady_one_stays_as_it_is() -> None:
    machine = Machine(lambda threads: float(threads), 2)
    team = machine.team(steady=True)
    assert set(machine.steps_until(team, 1000)) == {2}
    team.limit_to(1)
    assert set(machine.steps_until(team, 1000)) == {1}
    team.limit_to(2)
    assert set(machine.steps_until(team, 1000)) == {2}


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("counted", [{"epochs": 100}, {"epochs": None, "seconds": 600.0}])
def test_only_a_training_in_seconds_tries(
    tiny: Dataset,
    tiny_config: Config,
    two_threads: None,
    counted: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One in epochs, whose weights follow from its seed, stays with the threads that there are."""
    used: list[int] = []
    take = Team.take

    def taking(self: Team, step: Callable[[], None]) -> None:
        take(self, step)
        used.append(torch.get_num_threads())

    monkeypatch.setattr(Team, "take", taking)
    config = Config(tiny_config.model, TrainConfig(**{"compile": "no", **counted}))  # pyright: ignore[reportArgumentType]
    for _ in fit(config, tiny):
        if len(used) > FIRST + TRIAL:
            break
    assert set(used) == ({2} if "seconds" not in counted else {1, 2})
    assert torch.get_num_threads() == 2


def test_a_settled_one_has_all_threads_and_tries_no_others() -> None:
    machine = Machine(lambda threads: float(threads), 2)
    team = machine.team()
    machine.steps_until(team, 100)
    assert team.size == 1
    team.settle()
    assert set(machine.steps_until(team, 1000)) == {2}
