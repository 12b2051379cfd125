"""Does generating help: the statistics of the verdict, and classifiers trained on tiny data."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_tiny
from evaluation_contexts import context_of
from scipy import stats
from sklearn.metrics import balanced_accuracy_score

from vaelab import judge_augmentation, load_dataset
from vaelab.cli import main
from vaelab.config import Config
from vaelab.data import Dataset, Split
from vaelab.errors import ConfigError, DataError
from vaelab.evaluation import augmentation
from vaelab.evaluation.augmentation import Difference, Interval, Judgement, repeated_images, t_interval, verdict_of
from vaelab.inference.trained import TrainedModel
from vaelab.training.fit import fit

N = 3000


def judged(*shares: float, spread: float = 0.002, seed: int = 0) -> Judgement:
    """Simulated answers: the probability of a right one is a share for each kind of training images, and varies with the seed."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(N) % 3)
    difficulty = rng.random(N)  # the same for all classifiers, as the test images are
    chance = np.array(shares)[:, None] + spread * rng.standard_normal((3, 5))
    correct = difficulty < chance[..., None]
    return Judgement(correct, labels, ("a", "b", "c"), (100, 150, 150), 600)


@pytest.mark.parametrize(
    ("shares", "verdict"),
    [
        ((0.90, 0.92, 0.95), "helps"),
        ((0.92, 0.90, 0.95), "helps"),
        ((0.90, 0.95, 0.95), "does not help"),
        ((0.90, 0.90, 0.90), "does not help"),
        ((0.90, 0.95, 0.92), "hurts"),  # oversampling is better
        ((0.95, 0.90, 0.92), "hurts"),  # the real images alone are better
        ((0.95, 0.95, 0.90), "hurts"),
    ],
)
def test_the_verdict_of_simulated_answers(shares: tuple[float, ...], verdict: str) -> None:
    judgement = judged(*shares)
    assert judgement.verdict == verdict
    assert judgement.sentence.startswith(f"Generating {verdict}: ")
    assert "3,000 real test images" in judgement.sentence
    assert "95 % intervals over 5 seeds" in judgement.sentence


def test_a_difference_counts_only_beyond_seeds_and_test_images() -> None:
    def difference(low: float, high: float, error: float) -> Difference:
        return Difference(Interval((low + high) / 2, low, high), error)

    up, down = difference(0.5, 1.5, 0.1), difference(-1.5, -0.5, 0.1)
    wide, few = difference(-0.5, 2.5, 0.1), difference(0.5, 1.5, 0.6)
    assert [each.sign for each in (up, down, wide, few)] == [1, -1, 0, 0]
    assert verdict_of({"real": up, "oversampled": up}) == "helps"
    assert verdict_of({"real": up, "oversampled": wide}) == "does not help"
    assert verdict_of({"real": few, "oversampled": up}) == "does not help"
    assert verdict_of({"real": up, "oversampled": down}) == "hurts"


def test_equal_answers_of_all_seeds_decide_nothing() -> None:
    same = judged(1.0, 1.0, 1.0, spread=0)
    assert same.verdict == "does not help"
    assert same.differences["real"] == (Interval(0, 0, 0), 0)


def test_the_interval_is_students() -> None:
    values = np.array([1.0, 2.5, 0.5, 3.0, 2.0])
    expected = stats.t.interval(0.95, 4, loc=values.mean(), scale=stats.sem(values))
    np.testing.assert_allclose(t_interval(values), (values.mean(), *expected))
    # it covers the mean of normal values 95 % of the time
    rng = np.random.default_rng(0)
    covered = [low < 0 < high for _, low, high in map(t_interval, rng.standard_normal((4000, 5)))]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.011)


def test_the_differences_are_paired_and_balanced_accuracy_is_that_of_scikit_learn() -> None:
    judgement = judged(0.90, 0.93, 0.94, spread=0.02)
    answers = np.where(judgement.correct, judgement.labels, (judgement.labels + 1) % 3)
    for k in range(3):
        for s in range(5):
            expected = 100 * balanced_accuracy_score(judgement.labels, answers[k, s])
            assert judgement.balanced_accuracy[k, s] == pytest.approx(expected)
    paired = judgement.balanced_accuracy[2] - judgement.balanced_accuracy[1]
    assert judgement.differences["oversampled"].over_seeds == t_interval(paired)


def test_the_error_over_test_images_is_that_of_a_bootstrap() -> None:
    judgement = judged(0.8, 0.85, 0.9)
    rng = np.random.default_rng(1)
    share = judgement.correct.mean(1)
    drawn = []
    for _ in range(500):
        parts = [rng.choice(np.flatnonzero(judgement.labels == k), (judgement.labels == k).sum()) for k in range(3)]
        drawn.append(100 * np.mean([(share[2] - share[0])[part].mean() for part in parts]))
    assert judgement.differences["real"].error == pytest.approx(np.std(drawn), rel=0.15)


def test_a_rare_class_weighs_as_much_as_another() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    correct = np.ones((3, 2, 100), bool)
    correct[2, :, 90:] = False
    judgement = Judgement(correct, labels, ("a", "b"), (1, 1, 1), 1)
    assert judgement.balanced_accuracy.tolist() == [[100, 100], [100, 100], [50, 50]]
    assert judgement.recall[2].tolist() == [[1, 0], [1, 0]]


def test_images_are_repeated_equally_often() -> None:
    labels = np.array([0, 1, 0, 2, 1, 0, 0, 0])
    missing = np.array([0, 5, 4])
    index = repeated_images(labels, missing, seed=0)
    assert np.bincount(labels[index]).tolist() == [5, 7, 5]
    times = np.bincount(index, minlength=8)
    assert times[labels == 0].tolist() == [1] * 5
    assert sorted(times[labels == 1]) == [3, 4]
    assert times[3] == 5
    assert np.array_equal(repeated_images(labels, missing, seed=0), index)


STEPS = 20


@pytest.fixture(scope="module")
def uneven(tiny: Dataset) -> Dataset:
    """`tiny` with 3 training images of the class `frame`, and 60 test images."""
    train = tiny.train
    assert train.labels is not None
    kept = (train.labels != 2) | (np.cumsum(train.labels == 2) <= 3)
    return replace(tiny, train=train[np.flatnonzero(kept)], test=draw_tiny(60, seed=8))


def of_real_images(monkeypatch: pytest.MonkeyPatch, shift: int = 0) -> None:
    """Generated images are drawn ones, of the requested label or of one `shift` further."""
    pool = draw_tiny(300, seed=9)
    assert pool.labels is not None

    def decode(self: TrainedModel, z: np.ndarray, labels: np.ndarray, **_: object) -> np.ndarray:
        del self, z
        return np.stack([pool.images[pool.labels == (k + shift) % 3][i % 100, 0] for i, k in enumerate(labels)])

    monkeypatch.setattr(TrainedModel, "decode", decode)


def test_good_images_teach_more_than_wrong_ones(uneven: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    model = context_of(uneven, classifier=False).model
    told: list[tuple[str, int, int]] = []
    of_real_images(monkeypatch)
    good = judge_augmentation(model, uneven, seeds=2, steps=STEPS, work=lambda *done: told.append(done))
    assert uneven.train.labels is not None
    filled = 3 * int(np.bincount(uneven.train.labels).max())
    assert good.images == (len(uneven.train), filled, filled)
    assert good.correct.shape == (3, 2, 60)
    assert told[0] == ("training 6 classifiers", 0, 120)
    assert told[-1] == ("training 6 classifiers", 120, 120)
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    of_real_images(monkeypatch, shift=1)
    wrong = judge_augmentation(model, uneven, seeds=2, steps=STEPS)
    assert np.array_equal(wrong.correct[:2], good.correct[:2])  # determined by the seed
    assert good.recall[2, :, 2].min() > 0.8
    assert wrong.balanced_accuracy[2].max() < good.balanced_accuracy[2].min() - 10


def test_what_cannot_be_judged_is_refused(uneven: Dataset) -> None:
    model = context_of(uneven, classifier=False).model
    with pytest.raises(ConfigError, match="`seeds`: got 1; expected at least 2"):
        judge_augmentation(model, uneven, seeds=1)
    with pytest.raises(ConfigError, match="`steps`: got 0"):
        judge_augmentation(model, uneven, steps=0)
    assert uneven.test.labels is not None
    sparse = uneven.test[np.flatnonzero(np.cumsum(uneven.test.labels == 1) * (uneven.test.labels == 1) < 10)]
    with pytest.raises(DataError, match=r"tiny: got 9 test images of the class 'down'; `judge` needs at least 10"):
        judge_augmentation(model, replace(uneven, test=sparse))
    none = Split(uneven.test.images[:0], uneven.test.labels[:0])
    with pytest.raises(DataError, match="got 0 test images of the class 'across'"):
        judge_augmentation(model, replace(uneven, test=none))


def test_the_command_prints_a_table_and_the_verdict_and_writes_them(
    uneven: Dataset,
    tiny_config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(augmentation, "steps_for", lambda _: STEPS)
    names = np.array(uneven.classes)
    splits = {"": uneven.train, "validation_": uneven.validation, "test_": uneven.test}
    arrays = {f"{key}images": split.images for key, split in splits.items()}
    arrays |= {f"{key}labels": names[split.labels] for key, split in splits.items()}
    np.savez("uneven.npz", **arrays)  # pyright: ignore[reportArgumentType]
    for _ in fit(tiny_config, load_dataset("uneven.npz"), out="run"):
        pass
    with pytest.raises(SystemExit) as end:
        main(["augment", "run", "uneven.npz", "--judge", "--seed", "7", "--temperature", "0.9", "--out", "filled"])
    assert end.value.code == 0
    found = json.loads(Path("filled/judge.json").read_text(encoding="utf-8"))
    printed = capsys.readouterr().out
    assert found["sentence"] in printed
    for kind in ("real ", "real, oversampled", "real and generated"):
        assert kind in printed
    assert found["verdict"] in ("helps", "does not help", "hurts")
    assert found["rule"] == augmentation.RULE
    assert found["seeds"] == [7, 8, 9, 10, 11]
    assert found["settings"] == {"to": "balance", "temperature": 0.9, "seed": 7, "decode": "mean"}
    assert found["test_images"] == {"across": 20, "down": 20, "frame": 20}
    generated, real = (found["trained_on"][kind]["balanced_accuracy"] for kind in ("generated", "real"))
    assert len(generated["each"]) == 5
    assert found["difference_of_generated_to"]["real"]["mean"] == pytest.approx(generated["mean"] - real["mean"])
    assert (
        len(load_dataset("filled").train) == found["trained_on"]["generated"]["images"]
    )  # judge.json does not disturb it
