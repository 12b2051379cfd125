"""Float32 products by oneDNN: as precise as MKL's, the setting put back, and left alone where it would round."""

from pathlib import Path

import pytest
import torch

from vaelab import precision


@pytest.fixture(autouse=True, params=["Intel", "others"])
def maker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Who made the processor, as this package takes it: both ways of multiplying are tried on any."""
    monkeypatch.setattr(precision, "_intel", lambda: request.param == "Intel")
    return request.param


asked = precision._intel.__wrapped__  # before anything stands in its place, and without what it remembers


def setting() -> str:
    return precision._settings().fp32_precision


@pytest.mark.parametrize("size", [(128, 784, 400), (400, 128, 784), (3, 5, 7), (1000, 32, 256)])
def test_products_are_as_precise_as_float32_is(size: tuple[int, int, int]) -> None:
    n, k, m = size
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(n, k, generator=generator), torch.randn(k, m, generator=generator)
    exact = left.double() @ right.double()
    with fast_products():
        error = ((left @ right).double() - exact).abs().max().item()
    assert error < 1e-6 * k  # products rounded to bfloat16 miss by some 1e-2


def test_probe_tells_products_that_round() -> None:
    assert precision._exact(32, 40, 400)
    rounded = torch.full((8, 16), 1 + 2.0**-12).to(torch.bfloat16).float() @ torch.ones(16, 8)
    assert not bool((rounded == 16 * (1 + 2.0**-12)).any())


def test_setting_is_put_back() -> None:
    before = setting()
    with pytest.raises(ZeroDivisionError), fast_products():
        raise ZeroDivisionError
    assert setting() == before


def test_onednn_multiplies_but_on_intels_own(maker: str) -> None:
    with fast_products():
        assert (setting() == "bf16") == (maker != "Intel" and precision._onednn_keeps_float32())


@pytest.mark.parametrize(
    ("text", "intel"), [("vendor_id\t: GenuineIntel\n", True), ("vendor_id\t: AuthenticAMD\n", False)]
)
def test_the_maker_is_what_the_processor_says(text: str, intel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: text)
    assert asked() == intel


def test_where_no_file_says_so_the_system_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    for answer, intel in (("Intel64 Family 6 Model 106 Stepping 6, GenuineIntel", True), ("arm", False)):
        monkeypatch.setattr(precision.platform, "processor", lambda answer=answer: answer)
        assert asked() == intel


def test_where_onednn_would_round_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    before = setting()
    monkeypatch.setattr(precision, "_exact", lambda *_: False)
    precision._onednn_keeps_float32.cache_clear()
    try:
        with fast_products():
            assert setting() == before
    finally:
        precision._onednn_keeps_float32.cache_clear()
    assert setting() == before
