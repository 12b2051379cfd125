"""Which bodies a configuration names, made and tried: those of `vaelab.models.networks`, or one's own by import path.

A body of one's own is a `torch.nn.Module`, at the top of a module that can be imported:

- an encoder, called `Encoder(shape=…, classes=…, width=…, depth=…)`, maps images (batch, *shape) and one-hot labels
  (batch, K) to features (batch, any number);
- a decoder, called `Decoder(shape=…, planes=…, latent_dim=…, classes=…, width=…, depth=…)`, maps latents
  (batch, latent_dim) and such labels to the likelihood's parameters (batch, planes, *shape).

`shape` is (C, H, W) for images and (D,) for rows of a table; `classes` is K, or 0 for a model without labels, whose bodies
are given None for them; `planes` is the number of parameters that the likelihood has for each value. A body is given those
of these arguments that its signature names, all by keyword: one with neither `width` nor `depth` need not name them. All
else is as for the bodies of `vaelab.models.networks`.

A run keeps the import path and the weights, never code. So making such a model, and loading such a run, imports the module
that is named, which runs what is in it: load runs of others only where you trust that module.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vaelab.config import ModelConfig, OwnBody, option
from vaelab.errors import ConfigError, did_you_mean
from vaelab.models.networks import ConvDecoder, ConvEncoder, DenseDecoder, DenseEncoder

NETWORKS = {"mlp": (DenseEncoder, DenseDecoder), "conv": (ConvEncoder, ConvDecoder)}
"""Encoder and decoder by the name of `ModelConfig.network`."""

TRIAL_BATCH = 2
"""Images of noise that a body of one's own is tried on when the model is built."""


def build_encoder(config: ModelConfig, shape: tuple[int, ...], classes: int) -> tuple[nn.Module, int]:
    """The encoder body of a complete `config`, and the number of features that it gives.

    Raises
    ------
    ConfigError
        If it cannot be imported or made, or does not give features (batch, features) for images of `shape`.
    """
    facts = {"shape": shape, "classes": classes, "width": config.width, "depth": config.depth}
    if config.encoder is None:
        encoder = _called(NETWORKS[config.network or "mlp"][0], facts)
        return encoder, encoder.features
    body = _own("encoder", config.encoder, facts)
    output = _tried("encoder", config.encoder, body, "images", (TRIAL_BATCH, *shape), classes)
    if output.ndim != 2 or len(output) != TRIAL_BATCH or output.shape[1] == 0:
        raise _misfit(
            "encoder", config.encoder, output, f"({TRIAL_BATCH}, features)", f"images {(TRIAL_BATCH, *shape)}"
        )
    return body, output.shape[1]


def build_decoder(config: ModelConfig, shape: tuple[int, ...], planes: int, classes: int) -> nn.Module:
    """The decoder body of a complete `config`, which gives `planes` parameters for every value of an image of `shape`.

    Raises
    ------
    ConfigError
        If it cannot be imported or made, or does not give (batch, planes, *shape) for latents.
    """
    assert config.latent_dim is not None
    facts = {"shape": shape, "planes": planes, "latent_dim": config.latent_dim, "classes": classes}
    facts |= {"width": config.width, "depth": config.depth}
    if config.decoder is None:
        return _called(NETWORKS[config.network or "mlp"][1], facts)
    body = _own("decoder", config.decoder, facts)
    latents = (TRIAL_BATCH, config.latent_dim)
    output = _tried("decoder", config.decoder, body, "latents", latents, classes)
    if output.shape != (expected := (TRIAL_BATCH, planes, *shape)):
        raise _misfit("decoder", config.decoder, output, str(expected), f"latents {latents}")
    return body


def import_network(name: str, path: str) -> Callable[..., Any]:
    """What an import path such as `my_networks:Encoder` names; `name` is the field it was given for.

    Raises
    ------
    ConfigError
        If there is no such module on the path, it fails, or it has no such name.
    """
    module_name, qualified = path.split(":")
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        what, missing = _said(error), error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is None or not f"{module_name}.".startswith(f"{missing}."):
            raise ConfigError(
                f"{option(name)} {path}: {module_name} was found, but fails when it is imported ({what}); expected a module "
                f"that imports: mend it, and try python -c 'import {module_name}'"
            ) from error
        raise ConfigError(
            f"{option(name)} {path}: cannot import {module_name} ({what}); expected a module that Python finds: put its "
            "folder on the path, such as PYTHONPATH=FOLDER vaelab …, or sys.path.insert(0, 'FOLDER') in Python"
        ) from error
    for part in qualified.split("."):
        if not hasattr(found, part):
            raise ConfigError(
                f"{option(name)} {path}: {module_name} has no {qualified}; expected a class of that name in it."
                f"{did_you_mean(part, vars(found))}"
            )
        found = getattr(found, part)
    if not callable(found):
        raise ConfigError(f"{option(name)} {path}: got an object of type {type(found).__name__}; expected a class")
    return found


def _called(make: Callable[..., Any], facts: dict[str, Any]) -> Any:
    """`make` called with those of `facts` that its signature names."""
    parameters = inspect.signature(make).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return make(**facts)
    names = [parameter.name for parameter in parameters]
    return make(**{name: value for name, value in facts.items() if name in names})


def _own(name: str, path: OwnBody, facts: dict[str, Any]) -> nn.Module:
    """A body of one's own, made with the `facts` that it asks for."""
    assert isinstance(path, str)
    make = import_network(name, path)
    given = ", ".join(f"{key}={value!r}" for key, value in facts.items())
    try:
        body = _called(make, facts)
    except Exception as error:
        what = _said(error)
        raise ConfigError(
            f"{option(name)} {path}: cannot be made ({what}); expected one that takes these, or those of them that it names: "
            f"{given}"
        ) from error
    if not isinstance(body, nn.Module):
        raise ConfigError(
            f"{option(name)} {path}: got an object of type {type(body).__name__}; expected a torch.nn.Module"
        )
    for place, layer in body.named_modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.track_running_stats:
            raise ConfigError(
                f"{option(name)} {path}: got {type(layer).__name__} as {place or 'the body'}, whose running statistics the "
                "average of the weights that is kept does not have; expected nn.GroupNorm or nn.LayerNorm in its place"
            )
    for place, weight in body.named_parameters():
        if not weight.requires_grad:
            raise ConfigError(
                f"{option(name)} {path}: got the weight {place} with requires_grad=False; expected every weight to be "
                "trained: make it a buffer (register_buffer) if it is to stay as it is"
            )
    return body


def _tried(name: str, path: OwnBody, body: nn.Module, what: str, shape: tuple[int, ...], classes: int) -> Tensor:
    """What `body` gives for noise of `shape` and the label 0; it stays in training mode."""
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    labels = torch.eye(classes)[:1].expand(len(inputs), -1) if classes else None
    given = f"{what} {shape} and labels {None if labels is None else tuple(labels.shape)}"
    training = {layer: layer.training for layer in body.modules()}
    try:
        with torch.no_grad():
            output = body.eval()(inputs, labels)
    except Exception as error:
        text = _said(error)
        raise ConfigError(
            f"{option(name)} {path}: given {given}, it failed ({text}); expected it to take them"
        ) from error
    for layer, mode in training.items():
        layer.training = mode
    if not isinstance(output, Tensor):
        got = f"{type(output).__name__}"
        raise ConfigError(f"{option(name)} {path}: given {given}, it gave a {got}; expected one tensor")
    if output.dtype != torch.float32:
        raise ConfigError(f"{option(name)} {path}: given {given}, it gave {output.dtype}; expected torch.float32")
    if not output.isfinite().all():
        raise ConfigError(f"{option(name)} {path}: given {given}, it gave NaN or infinity; expected finite numbers")
    return output


def _misfit(name: str, path: OwnBody, output: Tensor, expected: str, given: str) -> ConfigError:
    return ConfigError(
        f"{option(name)} {path}: given {given}, it gave shape {tuple(output.shape)}; expected {expected}"
    )


def _said(error: Exception) -> str:
    """What an exception says, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
