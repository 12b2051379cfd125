"""The order of the images and the inputs made of them are functions of (seed, step) alone."""

import numpy as np
import pytest
import torch
from building import held_out_input
from conftest import generator
from hypothesis import given
from hypothesis import strategies as st

from vaelab.config import LikelihoodName
from vaelab.models.moments import Moments
from vaelab.objectives.batch import held_out_levels, to_unit, training_input
from vaelab.optim.batches import BatchStream, ShuffledOrder
from vaelab.random import binarisation_key, generator_for, latent_noise, random_bits, shuffled
from vaelab.training.fit import placed

LEVELS = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)


@pytest.mark.parametrize(("count", "batch_size"), [(12, 4), (10, 4), (7, 3), (10, 10), (5, 8), (3, 20), (1, 4)])
def test_every_image_is_seen_once_an_epoch(count: int, batch_size: int) -> None:
    order = ShuffledOrder(count, batch_size, seed=1)
    steps = 6 * count
    batches = [order.at(step) for step in range(steps)]
    assert all(batch.shape == (batch_size,) for batch in batches)
    stream = torch.cat(batches)
    for epoch in stream.split(count):
        assert epoch.sort().values.tolist() == list(range(count))


def test_epochs_have_orders_of_their_own() -> None:
    order = ShuffledOrder(20, 20, seed=1)
    epochs = {tuple(order.at(step).tolist()) for step in range(10)}
    assert len(epochs) == 10
    assert tuple(range(20)) not in epochs


def test_a_step_does_not_depend_on_those_before_it() -> None:
    forward = ShuffledOrder(10, 4, seed=1)
    expected = [forward.at(step).tolist() for step in range(12)]
    backward = ShuffledOrder(10, 4, seed=1)
    assert [backward.at(step).tolist() for step in reversed(range(12))] == expected[::-1]
    assert ShuffledOrder(10, 4, seed=1).at(9).tolist() == expected[9]
    assert forward.at(0).tolist() == expected[0]


def test_the_stream_does_not_depend_on_the_batch_size() -> None:
    small, large = ShuffledOrder(10, 3, seed=1), ShuffledOrder(10, 15, seed=1)
    one = torch.cat([small.at(step) for step in range(10)])
    assert torch.equal(one, torch.cat([large.at(step) for step in range(2)]))


def test_seeds_give_different_orders() -> None:
    orders = {tuple(ShuffledOrder(30, 30, seed=seed).at(0).tolist()) for seed in range(20)}
    assert len(orders) == 20


@given(count=st.integers(1, 3000), seed=st.integers(0, 2**63 - 1), epoch=st.integers(0, 10**6))
def test_a_permutation_has_every_element_once(count: int, seed: int, epoch: int) -> None:
    found = shuffled(np.arange(count), count, seed, epoch)
    assert np.array_equal(np.sort(found), np.arange(count))
    part = np.arange(count // 3, count // 2)
    assert np.array_equal(shuffled(part, count, seed, epoch), found[part])


def test_a_permutation_of_very_many_elements_is_computed_where_it_is_asked_for() -> None:
    count = 10**12
    found = shuffled(np.arange(count - 5000, count), count, 0, 0)
    assert found.min() >= 0
    assert found.max() < count
    assert len(np.unique(found)) == 5000
    assert abs(found.mean() / count - 0.5) < 5 * (1 / 12 / 5000) ** 0.5


def test_neighbours_have_nothing_in_common_in_a_permutation() -> None:
    count = 100_003
    found = shuffled(np.arange(count), count, 1, 2).astype(np.float64)
    for distance in (1, 2, 317, 316, 5000):
        assert abs(np.corrcoef(found[:-distance], found[distance:])[0, 1]) < 5 / count**0.5
    assert abs(np.corrcoef(found, np.arange(count))[0, 1]) < 5 / count**0.5
    fixed = (found == np.arange(count)).sum()
    assert fixed <= 8  # Poisson with mean 1


def test_every_image_is_as_likely_to_come_first() -> None:
    first = torch.tensor([int(ShuffledOrder(4, 1, seed=seed).at(0)) for seed in range(2000)])
    counts = torch.bincount(first, minlength=4)
    assert ((counts - 500).abs() < 5 * (2000 * 0.25 * 0.75) ** 0.5).all()


def test_generators_differ_in_purpose_seed_and_step() -> None:
    asked = [("order", 0, 0), ("step", 0, 0), ("order", 1, 0), ("order", 0, 1), ("order", 1, 11), ("order", 11, 1)]
    draws = {float(torch.rand(1, generator=generator_for(*one), dtype=torch.float64)) for one in asked}
    assert len(draws) == len(asked)
    one, same = (torch.rand(3, generator=generator_for("step", 5, 6)) for _ in range(2))
    assert torch.equal(one, same)


def drawn_input(raw: torch.Tensor, likelihood: LikelihoodName, seed: int) -> torch.Tensor:
    return training_input(raw, likelihood, binarisation_key(seed, 0))


def test_binarisation_is_white_as_often_as_the_pixel_is_bright() -> None:
    draws = 20_000
    drawn = drawn_input(LEVELS.expand(draws, -1, -1, -1), "bernoulli", 1)
    assert drawn.dtype == torch.float32
    assert set(drawn.unique().tolist()) == {0, 1}
    share, p = drawn.mean(0).flatten(), torch.arange(256) / 255
    assert ((share - p).abs() <= 5 * (p * (1 - p) / draws).sqrt()).all()  # exact at levels 0 and 255
    assert share[0] == 0
    assert share[255] == 1


def test_binarisation_follows_from_seed_and_step() -> None:
    one, same, other = (drawn_input(LEVELS, "bernoulli", seed) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    asked = [(0, 0), (1, 0), (0, 1), (1, 11), (11, 1)]
    assert len({tuple(binarisation_key(*one).tolist()) for one in asked}) == len(asked)


def correlations(rows: torch.Tensor) -> torch.Tensor:
    """Pearson's correlations of every two rows, in units of what chance makes of them."""
    apart = torch.corrcoef(rows.double()) - torch.eye(len(rows))
    return apart * rows.shape[1] ** 0.5


def test_random_bits_are_even() -> None:
    count = 2**20
    for step in range(3):
        bits = random_bits((1024, 1024), binarisation_key(0, step)).flatten()
        assert bits.min() >= 0
        for kinds, values in ((256, bits >> 8), (256, bits & 255), (65536, bits)):
            expected = count / kinds
            chi_squared = ((torch.bincount(values, minlength=kinds) - expected) ** 2 / expected).sum()
            assert abs(chi_squared - kinds) < 5 * (2 * kinds) ** 0.5
        single = torch.stack([(bits >> place) & 1 for place in range(16)])
        assert correlations(single).abs().max() < 5


def test_random_bits_of_places_and_of_steps_have_nothing_in_common() -> None:
    """Nor have keys of which one half is the same or nearly so."""
    keys = [binarisation_key(0, step) for step in range(8)]
    keys += [torch.tensor(pair, dtype=torch.int32) for pair in ((1, 1), (1, 2), (1, 785), (5, 3), (6, 4))]
    rows = torch.stack([random_bits((2**18,), key) for key in keys])
    for places in (0, 1, 2, 28, 784):
        found = correlations(torch.cat([rows, rows.roll(places, dims=1)])) if places else correlations(rows)
        if places:
            assert found[: len(keys), len(keys) :].abs().max() < 5.5, places
        else:
            assert found.abs().max() < 5.5


@pytest.mark.parametrize("likelihood", ["continuous-bernoulli", "logistic"])
def test_grey_levels_are_kept(likelihood: LikelihoodName) -> None:
    expected = (torch.arange(256, dtype=torch.float64) / 255).float().reshape(1, 1, 16, 16)
    torch.testing.assert_close(drawn_input(LEVELS, likelihood, 1), expected, rtol=0, atol=1e-7)
    torch.testing.assert_close(held_out_input(LEVELS.numpy(), likelihood), expected, rtol=0, atol=1e-7)
    assert torch.equal(drawn_input(LEVELS, likelihood, 1), held_out_input(LEVELS.numpy(), likelihood))


def test_tables_pass_unchanged() -> None:
    table = torch.randn(5, 3, generator=generator(1))
    assert torch.equal(drawn_input(table, "gaussian", 1), table)
    assert torch.equal(held_out_input(table.numpy(), "gaussian"), table)


def test_held_out_images_are_binarised_by_the_published_protocol() -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), dtype=np.uint8)
    expected = np.random.RandomState(777).binomial(1, images / 255.0)
    got = held_out_input(images, "bernoulli")
    assert got.dtype == torch.float32
    np.testing.assert_array_equal(got.numpy(), expected)
    assert torch.equal(got, held_out_input(images, "bernoulli"))
    # Image after image, so that the images a subset begins with are the same.
    assert torch.equal(held_out_input(images[:10], "bernoulli"), got[:10])


def test_latent_noise_is_standard_normal_and_follows_from_the_seed() -> None:
    noise = latent_noise(20_000, 3, seed=4)
    assert noise.shape == (20_000, 3)
    assert noise.mean(0).abs().max() < 5 / 20_000**0.5
    assert (noise.square().mean(0) - 1).abs().max() < 5 * (2 / 20_000) ** 0.5
    assert torch.equal(noise, latent_noise(20_000, 3, seed=4))
    assert not torch.equal(noise, latent_noise(20_000, 3, seed=5))


@pytest.mark.parametrize("values", [1, 7 * 60, 10_000])
def test_moments_are_those_of_the_whole(values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaelab.models.moments.VALUES_AT_ONCE", values)
    images = torch.randint(0, 256, (50, 3, 4, 5), generator=generator(1)).to(torch.uint8)
    mean, variance, _ = Moments.of(images)
    unit = images.double() / 255
    torch.testing.assert_close(mean, unit.mean(0))
    torch.testing.assert_close(variance, unit.var(0, correction=0))
    table = 1000 + torch.randn(50, 3, generator=generator(1))
    mean, variance, _ = Moments.of(table)
    torch.testing.assert_close(mean, table.double().mean(0))
    torch.testing.assert_close(variance, table.double().var(0, correction=0), rtol=1e-5, atol=0)


def test_a_constant_column_has_no_negative_variance() -> None:
    _, variance, _ = Moments.of(torch.full((1000, 2), 0.1))
    assert (variance >= 0).all()
    assert variance.max() < 1e-9


def test_levels_of_held_out_images_stay_as_small_as_they_came() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2500, 1, 3, 2), dtype=np.uint8)
    binary = held_out_levels(images, "bernoulli")
    assert binary.dtype == torch.uint8
    assert set(binary.unique().tolist()) == {0, 255}
    whole = np.random.RandomState(777).binomial(1, images / 255.0)  # in one draw, as the protocol has it
    assert np.array_equal(binary.numpy(), 255 * whole)
    assert np.array_equal(held_out_levels(images, "logistic").numpy(), images)
    assert torch.equal(to_unit(binary), held_out_input(images, "bernoulli"))
    rows = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    assert torch.equal(to_unit(held_out_levels(rows, "gaussian")), torch.from_numpy(rows))


def feed(images: torch.Tensor, seed: int = 0) -> BatchStream:
    return BatchStream(images, torch.arange(len(images)), batch_size=8, latent_dim=3, seed=seed)


def test_what_a_step_sees_follows_from_seed_and_step() -> None:
    """However many steps are drawn together, and in whatever order they are asked for."""
    images = torch.arange(30, dtype=torch.uint8).view(30, 1, 1, 1)
    one, same, other = feed(images), feed(images), feed(images, seed=1)
    backwards = {step: same.at(step) for step in reversed(range(40))}
    order = ShuffledOrder(30, 8, seed=0)
    for step in range(40):
        batch = one.at(step)
        for mine, theirs in zip(vars(batch).values(), vars(backwards[step]).values(), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
        labels, noise, key = batch.labels, batch.noise, batch.key
        assert torch.equal(batch.images.flatten().long(), order.at(step))
        assert key is not None
        assert labels is not None
        assert torch.equal(labels, order.at(step))
        assert noise.shape == (8, 3)
        assert torch.equal(key, binarisation_key(0, step))
        assert not torch.equal(noise, other.at(step).noise)
    noises = torch.stack([one.at(step).noise for step in range(40)])
    assert len(noises.unique()) == noises.numel()


def test_flips_mirror_half_of_the_images_and_follow_from_seed_and_step() -> None:
    images = torch.arange(6, dtype=torch.uint8).view(1, 1, 2, 3) + 6 * torch.arange(30, dtype=torch.uint8).view(
        30, 1, 1, 1
    )
    plain = BatchStream(images, None, 8, 3, 0)
    one, same = (BatchStream(images, None, 8, 3, 0, flip=True) for _ in range(2))
    mirrored = 0
    for step in range(200):
        batch, original = one.at(step), plain.at(step)
        assert torch.equal(batch.noise, original.noise)
        for image, before in zip(batch.images, original.images, strict=True):
            assert torch.equal(image, before) or torch.equal(image, before.flip(-1))
            mirrored += not torch.equal(image, before)
        if step % 7 == 0:
            assert torch.equal(same.at(step).images, batch.images)
    assert abs(mirrored - 800) < 5 * 20


def test_the_images_of_later_steps_are_announced() -> None:
    images = torch.arange(100, dtype=torch.uint8).view(100, 1, 1, 1)
    told: list[np.ndarray] = []
    stream = BatchStream(images, None, 8, 3, 0, announce=told.append)
    seen = torch.cat([stream.at(step).images.flatten() for step in range(3 * stream.ahead)])
    assert np.concatenate(told[:3]).tolist() == seen.tolist()
    assert len(told) == 4
    stream.at(10 * stream.ahead)
    assert len(told) == 6  # what is drawn was not announced before


def test_batches_that_a_thread_draws_are_the_same() -> None:
    images = torch.randint(0, 256, (50, 1, 4, 4), dtype=torch.uint8, generator=generator(0))
    plain, ahead = (BatchStream(images, torch.arange(50), 8, 2, seed=1, prefetch=each) for each in (False, True))
    for step in (*range(40), 3, 100, 101, 117):
        one, other = plain.at(step), ahead.at(step)
        for name in ("images", "labels", "noise", "key"):
            assert torch.equal(getattr(one, name), getattr(other, name))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device: run pytest -m gpu where there is one")
def test_batches_that_are_sent_to_a_gpu_are_the_same() -> None:
    images, device = torch.randint(0, 256, (50, 3, 4, 4), dtype=torch.uint8), torch.device("cuda")
    labels = torch.arange(50, device=device)
    there = BatchStream(images.to(device), labels, 8, 2, seed=1, flip=True)
    sent = BatchStream(images, labels, 8, 2, seed=1, flip=True, device=device, prefetch=True)
    for step in range(40):
        one, other = there.at(step), sent.at(step)
        for name in ("images", "labels", "noise", "key"):
            assert torch.equal(getattr(one, name), getattr(other, name))


def test_images_that_do_not_fit_on_a_gpu_are_sent_batch_by_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.zeros(10, 1, 8, 8, dtype=torch.uint8)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (images.nbytes * 2 - 1, 2**30))
    found, (remark,) = placed(images, torch.device("cuda"))
    assert found is images
    assert "batch by batch" in remark
    assert placed(images, torch.device("cpu"))[1] == []


def test_large_images_are_drawn_for_fewer_steps_at_a_time() -> None:
    assert feed(torch.zeros(8, 1, 28, 28, dtype=torch.uint8)).ahead == 16
    large = feed(torch.zeros(8, 3, 256, 256, dtype=torch.uint8))
    assert large.ahead == 2
    assert feed(torch.zeros(8, 3, 1024, 1024, dtype=torch.uint8)).ahead == 1
    assert large.at(3).images.shape == (8, 3, 256, 256)
