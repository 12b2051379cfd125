"""The paths of a served model: what they answer, and that an answer depends on its request alone."""

import asyncio
import re
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from served_model import ANSWERS, Client, levels_of

from vaelab.data import Dataset
from vaelab.inference.latents import place
from vaelab.inference.trained import TrainedModel, load
from vaelab.objectives.batch import held_out_levels
from vaelab.objectives.bounds import held_out_terms
from vaelab.serving import api
from vaelab.serving.model import OnnxModel


@pytest.fixture
def client(served_models: dict[str, OnnxModel]) -> Client:
    return Client(served_models["cvae"])


@pytest.fixture(scope="session")
def trained(studio_run: Path) -> TrainedModel:
    return load(studio_run)


def test_the_model_is_described(client: Client, served_models: dict[str, OnnxModel]) -> None:
    answer = client.get("/v1/model").json()
    TypeAdapter(api.Described).validate_python(answer, strict=True)
    assert (answer["model"], answer["shape"], answer["latent_dim"]) == ("cvae", [1, 8, 8], 2)
    assert answer["limits"]["max_images"] == 64
    assert answer["classes"] == list(served_models["cvae"].facts.classes)


def test_images_are_generated_by_label_and_seed(client: Client, served_models: dict[str, OnnxModel]) -> None:
    labels = ["down", "frame", "down"]
    first = client.ask("sample", labels=labels, seed=5)
    z = np.random.default_rng(5).standard_normal((3, 2), np.float32)
    index = np.array([served_models["cvae"].indices[label] for label in labels])
    expected = np.rint(255 * served_models["cvae"].decode(z, index)[0].clip(0, 1)).astype(np.uint8)
    assert np.array_equal([levels_of(image) for image in first["images"]], expected[:, 0])
    assert client.ask("sample", labels=labels, seed=5) == first
    assert client.ask("sample", labels=labels[:1], seed=5)["images"] == first["images"][:1]
    other = client.ask("sample", labels=labels)
    assert client.ask("sample", labels=labels, seed=other["seed"]) == other
    still = client.ask("sample", labels=["down"] * 2, temperature=0, seed=1)["images"]
    assert still[0] == still[1]


def test_without_labels_a_number_of_images_is_generated(served_models: dict[str, OnnxModel]) -> None:
    for kind in ("vae", "ae"):
        assert len(Client(served_models[kind]).ask("sample", count=3)["images"]) == 3
        assert len(Client(served_models[kind]).ask("sample")["images"]) == 1


def test_posteriors_are_those_of_vaelab(
    client: Client, trained: TrainedModel, tiny: Dataset, pictures: list[str], names: list[str]
) -> None:
    got = client.ask("encode", images=pictures, labels=names)
    assert tiny.test.labels is not None
    expected = trained.encode(tiny.test.images[:6], tiny.test.labels[:6], binarised=False)
    np.testing.assert_allclose(got["mean"], expected.mean, atol=1e-3)
    np.testing.assert_allclose(got["log_variance"], expected.log_variance, atol=1e-3)
    assert got["labels"] == names


def test_missing_labels_are_inferred_as_by_vaelab(
    client: Client, trained: TrainedModel, tiny: Dataset, pictures: list[str], names: list[str]
) -> None:
    some: list[str | None] = [None, names[1], None, *names[3:]]
    placed = place(trained, tiny.test.images[:6], some)
    got = client.ask("encode", images=pictures, labels=some)
    assert placed.labels is not None
    assert got["labels"] == [trained.classes[label] for label in placed.labels]
    np.testing.assert_allclose(got["mean"], placed.z, atol=1e-3)


def test_reconstructions_are_those_of_vaelab(
    client: Client, trained: TrainedModel, tiny: Dataset, pictures: list[str], names: list[str]
) -> None:
    got = client.ask("reconstruct", images=pictures, labels=names)
    assert tiny.test.labels is not None
    labels = tiny.test.labels[:6]
    expected = trained.decode(trained.encode(tiny.test.images[:6], labels, binarised=False).mean, labels)
    shown = np.array([levels_of(image) for image in got["images"]], np.int64)
    assert np.abs(shown - expected).max() <= 1
    drawn = [client.ask("reconstruct", images=pictures, labels=names, draw=True, seed=seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0] != got


def test_images_are_restyled(client: Client, trained: TrainedModel, pictures: list[str], names: list[str]) -> None:
    every = client.ask("restyle", images=pictures, labels=names)
    assert every["targets"] == list(trained.classes)
    assert [len(row) for row in every["images"]] == [3] * 6
    some = client.ask("restyle", images=pictures, labels=names, targets=["frame"])
    assert [row[2] for row in every["images"]] == [row[0] for row in some["images"]]
    again = client.ask("reconstruct", images=pictures, labels=names)["images"]
    assert again == [row[trained.classes.index(name)] for row, name in zip(every["images"], names, strict=True)]


def test_the_elbo_is_that_of_vaelab_at_the_same_noise(
    client: Client, trained: TrainedModel, tiny: Dataset, pictures: list[str], names: list[str]
) -> None:
    draws = 5
    got = client.ask("score", images=pictures, labels=names, draws=draws, seed=3)
    noise = torch.from_numpy(np.random.default_rng(3).standard_normal((draws, 2), np.float32))
    for at in range(6):
        x = held_out_levels(tiny.test.images[at : at + 1], "bernoulli").repeat(draws, 1, 1, 1)
        y = torch.full((draws,), trained.classes.index(names[at]))
        terms = held_out_terms(trained.model, x, y, noise)
        assert got["distortion"][at] == pytest.approx(terms.distortion.mean().item(), abs=1e-3)
        assert got["rate"][at] == pytest.approx(terms.rate[0].sum().item(), abs=1e-3)
        assert got["elbo"][at] == pytest.approx(-terms.negative_elbo().mean().item(), abs=1e-3)
        error = terms.distortion.std().item() / draws**0.5
        assert got["standard_error"][at] == pytest.approx(error, abs=1e-3)
    assert (got["draws"], got["seed"]) == (draws, 3)
    assert client.ask("score", images=pictures[:1], labels=names[:1], draws=1)["standard_error"] is None


def test_rows_of_a_table_are_lists_of_numbers(served_models: dict[str, OnnxModel]) -> None:
    client = Client(served_models["table"])
    rows = [[0.1, -1, 0.5, 2.0], [1, 1, 1, 1]]
    assert np.shape(client.ask("reconstruct", images=rows)["images"]) == (2, 4)
    assert np.shape(client.ask("sample", count=2)["images"]) == (2, 4)
    assert len(client.ask("score", images=rows)["elbo"]) == 2
    for wrong in ([[1, 2, 3]], [[1, 2, 3, 1e39]], ["x"]):
        assert client.post("encode", images=wrong).status_code == 422


def test_an_answer_does_not_depend_on_other_requests(client: Client, pictures: list[str], names: list[str]) -> None:
    """Sent alone, and sent with 40 others whose rows are in the same batches."""
    asked = [
        ("score", {"images": pictures, "labels": names, "draws": 7}),
        ("encode", {"images": pictures[2:5]}),
        ("sample", {"labels": ["frame", "down"], "seed": 9}),
        ("restyle", {"images": pictures[:2], "labels": names[:2]}),
        ("reconstruct", {"images": pictures[1:3], "draw": True}),
    ] * 8
    alone = [client.run(lambda s, n=n, a=a: s.post(f"/v1/{n}", json=a)).content for n, a in asked[:5]]

    async def together(session: httpx.AsyncClient) -> list[bytes]:
        answers = await asyncio.gather(*(session.post(f"/v1/{name}", json=given) for name, given in asked))
        return [answer.content for answer in answers]

    assert client.run(together) == alone * 8
    batches, rows = (
        int(re.search(rf"decoder_{what}_total (\d+)", client.get("/metrics").text)[1])  # type: ignore[index]
        for what in ("batches", "rows")
    )
    assert rows > 10 * batches  # they were joined


def test_an_autoencoder_has_no_variance(served_models: dict[str, OnnxModel], pictures: list[str]) -> None:
    assert Client(served_models["ae"]).ask("encode", images=pictures)["log_variance"] is None


@pytest.mark.parametrize("kind", ["cvae", "vae", "ae", "table"])
def test_the_examples_of_openapi_are_answered(served_models: dict[str, OnnxModel], kind: str) -> None:
    client = Client(served_models[kind])
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths) == {*(f"/v1/{name}" for name in ANSWERS), "/v1/model", "/healthz", "/readyz", "/metrics"}
    for name, answer in ANSWERS.items():
        about = paths[f"/v1/{name}"]["post"]
        assert {"200", "400", "413", "422", "503"} == set(about["responses"])
        example = about["requestBody"]["content"]["application/json"]["examples"]["one"]["value"]
        got = client.post(name, **example)
        possible = not ((name == "restyle" and kind != "cvae") or (name == "score" and kind == "ae"))
        assert got.status_code == (200 if possible else 422), got.text
        if possible:
            TypeAdapter(answer).validate_python(got.json())
