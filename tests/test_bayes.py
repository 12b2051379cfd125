"""Bayes' rule over labels, with models whose log p(x|y) is known exactly."""

import math

import pytest
import torch
from conftest import LinearGaussian
from evaluation_contexts import context_of, table
from torch.distributions import MultivariateNormal

from vaelab.data import Dataset
from vaelab.evaluation.bayes import (
    _gain_in_words,
    bayes_section,
    bounds_under_labels,
    label_gain,
    label_posterior,
    unconditional_bound,
)
from vaelab.evaluation.results import Estimate


def mixture(exact: LinearGaussian, x: torch.Tensor) -> torch.Tensor:
    """Log p(x) for equally frequent labels, by the Gaussian densities."""
    labels = [torch.full((len(x),), label) for label in range(exact.classes)]
    given = torch.stack([exact.log_evidence(x, y) for y in labels], dim=1)
    return torch.logsumexp(given, dim=1) - math.log(exact.classes)


def test_bounds_under_each_label_are_the_evidence_of_each(labelled_linear_gaussian: LinearGaussian) -> None:
    x, _ = labelled_linear_gaussian.draw(8)
    nats = bounds_under_labels(labelled_linear_gaussian.model, x, samples=3)
    assert nats.shape == (8, 3)
    for label in range(3):
        expected = -labelled_linear_gaussian.log_evidence(x, torch.full((8,), label))
        torch.testing.assert_close(nats[:, label], expected, rtol=0, atol=1e-9)


def test_labels_summed_out_are_the_evidence_of_the_mixture(labelled_linear_gaussian: LinearGaussian) -> None:
    x, _ = labelled_linear_gaussian.draw(50)
    nats = bounds_under_labels(labelled_linear_gaussian.model, x, samples=2)
    torch.testing.assert_close(unconditional_bound(nats), -mixture(labelled_linear_gaussian, x), rtol=0, atol=1e-9)


def test_labels_summed_out_agree_with_a_direct_estimate(labelled_linear_gaussian: LinearGaussian) -> None:
    """p(x) by Monte Carlo over z and y from their priors, without posterior or Bayes' rule."""
    exact = labelled_linear_gaussian
    x, _ = exact.draw(4)
    source = torch.Generator().manual_seed(1)
    z = torch.randn(400_000, exact.latent_dim, generator=source, dtype=torch.float64)
    y = torch.randint(exact.classes, (len(z),), generator=source)
    means = exact.mean(y) + z @ exact.weight.T
    nats = unconditional_bound(bounds_under_labels(exact.model, x, samples=4))
    for row, bound in zip(x, nats, strict=True):
        density = MultivariateNormal(torch.zeros(exact.rows, dtype=torch.float64), exact.noise_variance.diag())
        weights = density.log_prob(row - means).exp()
        error = float(weights.std() / math.sqrt(len(weights)) / weights.mean())
        assert error < 0.1
        assert -math.log(weights.mean()) == pytest.approx(float(bound), abs=4 * error)


def test_a_loose_bound_stays_an_upper_bound_and_falls_with_k(labelled_linear_gaussian: LinearGaussian) -> None:
    exact = labelled_linear_gaussian
    x, _ = exact.draw(300)
    truth = -mixture(exact, x)
    exact.spoil(0.4, 0.4)
    excess = {k: unconditional_bound(bounds_under_labels(exact.model, x, samples=k)) - truth for k in (1, 20)}
    assert excess[1].mean() > 0.1
    assert excess[20].mean() < excess[1].mean() - 0.1
    assert excess[20].mean() > -4 * excess[20].std() / math.sqrt(len(x))


def test_label_posterior_is_bayes_rule() -> None:
    nats = -torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.1, 0.2]], dtype=torch.float64))
    expected = torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.25, 0.5]], dtype=torch.float64)
    torch.testing.assert_close(label_posterior(nats), expected)


def test_the_gain_is_at_most_ln_k_and_nothing_where_labels_do_not_matter() -> None:
    certain = torch.tensor([[10.0, 900.0, 900.0, 900.0]], dtype=torch.float64)
    ignored = torch.full((1, 4), 10.0, dtype=torch.float64)
    label = torch.tensor([0])
    assert label_gain(certain, label).item() == pytest.approx(math.log(4))
    assert label_gain(ignored, label).item() == pytest.approx(0)
    assert label_gain(certain, label + 1).item() < -800  # a label under which the image would be a surprise


def test_gain_is_the_log_of_the_labels_posterior_above_chance(labelled_linear_gaussian: LinearGaussian) -> None:
    x, labels = labelled_linear_gaussian.draw(40)
    assert labels is not None
    nats = bounds_under_labels(labelled_linear_gaussian.model, x, samples=2)
    posterior = label_posterior(nats).gather(1, labels[:, None])[:, 0]
    torch.testing.assert_close(label_gain(nats, labels), math.log(3) + posterior.log())


def test_the_section_has_a_classifier_and_a_gain(tiny: Dataset) -> None:
    told: list[tuple[int, int]] = []
    context = context_of(tiny, classifier=False, quick=True)
    object.__setattr__(context, "work", lambda what, done, total: told.append((done, total)))
    section = bayes_section(context)
    given, free, gain = (section[key] for key in ("bound_given_label", "bound_without_label", "label_gain"))
    assert gain.value == pytest.approx(free.value - given.value)
    assert gain.value <= math.log(3)
    assert gain.beside[0] == ("ln 3, the maximum", pytest.approx(math.log(3)))
    assert section["bayes_accuracy"].count == 30
    assert told[-1] == (3, 3)


def test_tables_have_bounds_under_labels_too() -> None:
    assert bayes_section(context_of(table(), classifier=False))["bayes_accuracy"].count == 20


def test_one_image_has_no_error_and_an_unconditional_model_no_section(tiny: Dataset) -> None:
    one = Dataset("one", tiny.train, tiny.validation, tiny.test[:1], tiny.classes)
    section = bayes_section(context_of(one, classifier=False, quick=True))
    assert section["label_gain"].count == 1
    assert math.isnan(section["label_gain"].error or 0)
    assert bayes_section(context_of(tiny, "ae", classifier=False)).left_out == "This model (ae) takes no labels."


def test_a_label_that_makes_the_bound_worse_is_said_to() -> None:
    gain, without, with_label = (Estimate(value, 1.5, 1200) for value in (-49.44, 14893.88, 14943.32))
    words = _gain_in_words(gain, without, with_label)
    assert "makes the bound worse by 49.4 ± 1.5 nats" in words
    assert "from 14,893.88 to 14,943.32 nats (1,200 images)" in words
    assert "does not use the label as it should" in words
    assert "-" not in words
    better = _gain_in_words(Estimate(1.0, 0.1, 9), Estimate(90.0, 1.0, 9), Estimate(89.0, 1.0, 9))
    assert "lowers the bound by 1.00 ± 0.10 nats" in better
