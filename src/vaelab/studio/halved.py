"""Store the weights of an ONNX file as float16, which the graph casts to float32 before use."""

from __future__ import annotations

import numpy as np

from vaelab.inference import latents
from vaelab.inference.trained import TrainedModel
from vaelab.onnx_runtime import open_session

LEAST = (256, 4096, 65536)
"""Tensors with fewer elements stay float32; the first of these thresholds that keeps the outputs within tolerance is used."""

POINTS = 64
"""Number of random latents for the comparison."""

MOST_PIXEL, MOST_LATENT = 1 / 255, 0.02
"""Largest accepted difference of a decoded pixel, and of a posterior mean in σ."""


def halved(model: bytes, least: int = LEAST[0]) -> bytes:
    """Convert float32 weights with at least `least` elements to float16, each followed by a Cast node.

    Tensors with values that are too large for float16 stay float32.
    """
    import onnx
    from onnx import numpy_helper

    proto = onnx.load_from_string(model)
    graph, casts = proto.graph, []
    for tensor in graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        if values.size < least or np.abs(values).max() > np.finfo(np.float16).max:
            continue
        name, half = tensor.name, f"{tensor.name}_half"
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), half))
        casts.append(onnx.helper.make_node("Cast", [half], [name], half, to=onnx.TensorProto.FLOAT))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend(casts + nodes)
    return proto.SerializeToString()


def halved_if_alike(trained: TrainedModel, encoder: bytes, decoder: bytes) -> tuple[bytes, bytes]:
    """Convert as many weights of encoder and decoder to float16 as the tolerances allow, on `POINTS` random latents.

    Decoded pixels may differ by `MOST_PIXEL`, posterior means of decoded images by `MOST_LATENT`; each file is tested separately.
    """
    z, labels = _points(trained)
    inputs = {"z": z, "labels": labels, "scored": np.zeros((POINTS, *trained.model.shape), np.float32)}
    images = _run(decoder, "decoded", inputs)
    encoder_inputs = {"images": images, "image_labels": labels}
    mean = _run(encoder, "mean", encoder_inputs)
    small_encoder = _smallest_alike(encoder, "mean", encoder_inputs, mean, MOST_LATENT * _scale(trained)[1])
    return small_encoder, _smallest_alike(decoder, "decoded", inputs, images, MOST_PIXEL)


def _smallest_alike(
    model: bytes, output: str, inputs: dict[str, np.ndarray], expected: np.ndarray, most: np.ndarray | float
) -> bytes:
    """Return the smallest conversion whose output differs from `expected` by at most `most`; `model` if there is none."""
    for least in LEAST:
        small = halved(model, least)
        if (np.abs(_run(small, output, inputs) - expected) <= most).all():
            return small
    return model


def _points(trained: TrainedModel) -> tuple[np.ndarray, np.ndarray]:
    """Return random latents with the model's scale, and one-hot labels in turn."""
    middle, sigma = _scale(trained)
    z = middle + sigma * trained.latents(POINTS)
    classes = max(1, len(trained.classes))
    return z, np.eye(classes, dtype=np.float32)[np.arange(POINTS) % classes]


def _scale(trained: TrainedModel) -> tuple[np.ndarray, np.ndarray]:
    """Centre and σ of each axis as in `latents.scale`; 0 and 1 for an autoencoder whose codes were not measured."""
    if trained.model.stochastic or trained.axes is not None:
        middle, sigma = latents.scale(trained)
        return middle, np.maximum(sigma, np.float32(1e-6))
    return np.zeros(trained.model.latent_dim, np.float32), np.ones(trained.model.latent_dim, np.float32)


def _run(model: bytes, output: str, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """Run an ONNX file and return one output; inputs that the graph does not have are ignored."""
    session = open_session(model)
    names = {each.name for each in session.get_inputs()}
    values = {name: value for name, value in inputs.items() if name in names}
    return np.asarray(session.run([output], values)[0])
