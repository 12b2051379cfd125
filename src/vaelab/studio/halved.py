"""Weights of an ONNX file kept in half the bytes, as float16, which the graph turns to float32 before it uses them."""

from __future__ import annotations

import numpy as np

from vaelab.inference import latents
from vaelab.inference.trained import TrainedModel

LEAST = (256, 4096, 65536)
"""Numbers of a tensor below which it stays as it is: the first of these with which the file still does what it did."""

POINTS = 64
"""Random latents that both files are compared on."""

MOST_PIXEL, MOST_LATENT = 1 / 255, 0.02
"""Largest difference that is taken: of a decoded pixel, and of where an image lies in the latent, in σ."""


def halved(model: bytes, least: int = LEAST[0]) -> bytes:
    """An ONNX file with its float32 weights of at least so many numbers as float16, each with a Cast behind it.

    What is too large for float16 stays.
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
        whole, half = tensor.name, f"{tensor.name}_half"
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), half))
        casts.append(onnx.helper.make_node("Cast", [half], [whole], half, to=onnx.TensorProto.FLOAT))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend(casts + nodes)
    return proto.SerializeToString()


def halved_if_alike(trained: TrainedModel, encoder: bytes, decoder: bytes) -> tuple[bytes, bytes]:
    """Encoder and decoder with as much of their weights halved as lets them do, on `POINTS` random latents, what they did.

    They may differ by `MOST_PIXEL` and, in where the decoder's images lie, by `MOST_LATENT`; each is judged by itself.
    """
    z, labels = _points(trained)
    given = {"z": z, "labels": labels}
    images = _run(decoder, "decoded", given)
    shown = {"images": images, "image_labels": labels}
    small = _alike(decoder, "decoded", given, images, MOST_PIXEL)
    return _alike(encoder, "mean", shown, _run(encoder, "mean", shown), MOST_LATENT * _scale(trained)[1]), small


def _alike(
    model: bytes, output: str, given: dict[str, np.ndarray], expected: np.ndarray, most: np.ndarray | float
) -> bytes:
    """The smallest of the files whose output differs from `expected` by at most `most`; the file itself if there is none."""
    for least in LEAST:
        small = halved(model, least)
        if (np.abs(_run(small, output, given) - expected) <= most).all():
            return small
    return model


def _points(trained: TrainedModel) -> tuple[np.ndarray, np.ndarray]:
    """Random latents, as far from the middle as the model's own, and labels in turn, as weights."""
    middle, sigma = _scale(trained)
    z = middle + sigma * trained.latents(POINTS)
    classes = max(1, len(trained.classes))
    return z, np.eye(classes, dtype=np.float32)[np.arange(POINTS) % classes]


def _scale(trained: TrainedModel) -> tuple[np.ndarray, np.ndarray]:
    """Middle and σ of each axis, as `placing.scale` has it; N(0, I) for an autoencoder whose codes were not measured."""
    if trained.model.stochastic or trained.axes is not None:
        middle, sigma = latents.scale(trained)
        return middle, np.maximum(sigma, np.float32(1e-6))
    return np.zeros(trained.model.latent_dim, np.float32), np.ones(trained.model.latent_dim, np.float32)


def _run(model: bytes, output: str, given: dict[str, np.ndarray]) -> np.ndarray:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    wanted = {each.name for each in session.get_inputs()}
    values = {name: value for name, value in given.items() if name in wanted}
    return np.asarray(session.run([output], values)[0])
