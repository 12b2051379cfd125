"""A report that nobody measured, with everything in it that a page must bear."""

import math

import numpy as np

from vaelab.evaluation.report import Report
from vaelab.evaluation.results import Bars, Lines, Matrix, Plot, Points, Quantity, Section, Series, Sheet

LONG = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft"


def made_up() -> Report:
    """Every kind of plot, long words, NaN, markup in names, a section left out, large matrices, colour."""
    return Report(facts(), (_likelihood(), _labels(), _samples(), _left_out()))


def facts(**changed: object) -> dict:
    """The facts of a report, some of them changed."""
    return {
        "vaelab": "0.1.0",
        "model": {
            "kind": "cvae",
            "likelihood": "bernoulli",
            "latent_dim": 7,
            "weights": 1_234_567,
            "shape": [1, 28, 28],
            "classes": ["0", "1", LONG],
            "weights_sha256": "a" * 64,
        },
        "data": {
            "name": "strokes & <others>",
            "fingerprint": "f" * 64,
            "split": "test",
            "images": 10_000,
            "images_sha256": "e" * 64,
            "protocol": "Likelihood bernoulli, binarised once.",
        },
        "versus": None,
        "settings": {"importance_samples": 500, "quick": False, "seed": 0, "most_decoded": 5000},
        "made": "2026-05-03T14:05:00+00:00",
        **changed,
    }


def quantity(key: str, value: float, **changed: object) -> Quantity:
    """A quantity whose definition names its key."""
    fields = {"name": key.replace("_", " "), "unit": "nats per image", "definition": f"What {key} is.", **changed}
    return Quantity(key, value=value, **fields)  # pyright: ignore[reportArgumentType]


def _likelihood() -> Section:
    samples = (1, 2, 5, 10, 20, 50, 100, 200, 500)
    plots: list[Plot] = [
        Lines(
            "curve",
            "The bound over K",
            "K, draws of z per image",
            "nats per image",
            (Series("bound", samples, [98 + 4 / k for k in samples], [0.4] * len(samples)),),
            log_x=True,
        ),
        Lines(
            "several",
            f"Several lines, one of them called {LONG}",
            f"x, {LONG}",
            "y",
            (
                Series("sine", np.linspace(0, 6, 2000).tolist(), np.sin(np.linspace(0, 6, 2000)).tolist()),
                Series(LONG, [0.0, 3.0, 6.0], [math.nan, 0.5, -0.5]),
                Series("third", [0.0, 6.0], [-1.0, 1.0]),
            ),
        ),
        Lines("nothing", "Nothing but NaN", "x", "y", (Series("none", [1.0, 2.0], [math.nan, math.nan]),)),
        Lines("point", "A single point", "x", "y", (Series("one", [3.0], [1e-9]),)),
    ]
    shown = (
        quantity("bound", 98.2345, error=0.0834, count=10_000, better="lower", beside=(("one draw", 102.2),)),
        quantity("not_had", math.nan, error=math.nan, definition="Could not be had: 3 < 4 & <b>5</b> > 4."),
        quantity("exact", 7, unit=""),
        quantity(LONG, -1234.5, error=45.6, unit=LONG, beside=((LONG, 1.5), ("b", math.nan))),
    )
    words = (
        "On average, −log p(x) of an image is at most 98.23 ± 0.08 nats (K = 500, 10,000 images).",
        "A second sentence says what that is beside: <script>alert('nothing')</script>.",
    )
    return Section("likelihood", "Likelihood", words, shown, tuple(plots), seconds=31.2)


def _labels() -> Section:
    rng = np.random.default_rng(0)
    ten = rng.integers(0, 9, (10, 10)) + np.diag(np.full(10, 950))
    hundred = rng.integers(0, 3, (100, 100)) + np.diag(np.full(100, 90))
    few = tuple(str(index) for index in range(10))
    many = tuple(f"class number {index}" for index in range(100))
    correlation = rng.uniform(-1, 1, (4, 7))
    correlation[0, 0] = math.nan
    plots: list[Plot] = [
        Matrix("confusion", "Predicted labels", "requested", "predicted", few, ten),
        Matrix("large", "The same of a hundred classes", "asked for", "read as", many, hundred),
        Matrix("factors", "Factors", "factor", "axis", ("slant", "width", LONG, "x"), correlation, tuple("abcdefg")),
        Bars(
            "rate",
            "Rate of each axis",
            "axis",
            "nats",
            few,
            [3.2, 2.5, 2, 1.5, 1, 0.5, 0.2, 0.01, 0, math.nan],
            frozenset({7, 8}),
        ),
        Bars("classes", "Agreement of each class", "class", "%", many, rng.uniform(80, 100, 100).tolist()),
        Bars("long", "Long names, some below zero", "name", "gain", (LONG, "cat", "dog with a hat"), [2.5, -1.0, 0.5]),
    ]
    shown = (
        quantity(
            "agreement", 99.12, error=0.09, unit="%", count=10_000, better="higher", beside=(("real images", 99.4),)
        ),
    )
    return Section(
        "agreement", "Labels", ("99.1 % of the images are read as the label asked for.",), shown, tuple(plots)
    )


def _samples() -> Section:
    rng = np.random.default_rng(1)
    grey = rng.integers(0, 256, (3, 12, 28, 28), dtype=np.uint8)
    colour = rng.integers(0, 256, (2, 5, 140, 100, 3), dtype=np.uint8)
    groups = tuple((str(index), rng.normal(rng.normal(0, 1.2, 2), 0.4, (500, 2))) for index in range(10))
    quantiles = np.stack([np.sort(rng.normal(size=200)), np.sort(rng.normal(size=200))], axis=1)
    captions = tuple(tuple(f"{value:.1f}" for value in rng.uniform(50, 200, 12)) for _ in range(3))
    plots: list[Plot] = [
        Sheet("worst", "The worst images", tuple(grey), ("asked for 3", "nearest", LONG), captions),
        Sheet("colour", "Colour, and larger than a sheet needs", tuple(colour)),
        Points("map", "Where the images lie", "axis 0", "axis 1", groups, rings=True),
        Points("quantiles", "Quantiles", "of N(0, I)", "of the aggregate", (("axis 0", quantiles),), diagonal=True),
        Points("plain", "Width over slant", "slant", "width", (("a", quantiles * 1000), ("b", quantiles + np.nan))),
    ]
    shown = (quantity("fid", 3.21, unit="", better="lower", beside=(("real against real", 0.4),)),)
    return Section("samples", "Samples", ("FID is 3.2.",), shown, tuple(plots))


def _left_out() -> Section:
    return Section("style", "Style", left_out="it needs grey images of at least 16×16, and got 8×8")
