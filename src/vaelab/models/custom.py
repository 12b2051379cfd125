"""Construct the encoder and decoder that a configuration names: built-in ones, or custom ones by import path.

A custom network is a `torch.nn.Module` class (or a function that returns one) at the top level of an importable module:

- an encoder, called as `Encoder(shape=…, classes=…, width=…, depth=…)`, maps images (batch, *shape) and one-hot labels
  (batch, K) to features (batch, any number);
- a decoder, called as `Decoder(shape=…, planes=…, latent_dim=…, classes=…, width=…, depth=…)`, maps latents
  (batch, latent_dim) and one-hot labels to the likelihood's parameters (batch, planes, *shape).

`shape` is (C, H, W) for images and (D,) for rows of a table. `classes` is K, or 0 for a model without labels, whose networks
receive None as labels. `planes` is the number of likelihood parameters per value. Arguments are passed by keyword, and only
those that the signature names. Everything else is as in `vaelab.models.networks`.

A run stores the import path and the weights, never code; `vaelab.load` imports the module with the caller's consent only.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vaelab.config import ResolvedModelConfig
from vaelab.errors import ConfigError, did_you_mean
from vaelab.models.networks import NETWORKS

TRIAL_BATCH = 2  # random inputs on which a custom network is tried when the model is built


def build_encoder(config: ResolvedModelConfig, shape: tuple[int, ...], classes: int) -> tuple[nn.Module, int]:
    """Return the encoder of `config` and its number of features.

    A ConfigError if it cannot be imported or constructed, or does not return (batch, features) for images of `shape`.
    """
    arguments = {"shape": shape, "classes": classes, "width": config.width, "depth": config.depth}
    if not config.encoder:
        encoder = _construct(NETWORKS[config.network][0], arguments)
        return encoder, encoder.features
    custom = CustomNetwork("encoder", config.encoder)
    network = custom.construct(arguments)
    inputs = (TRIAL_BATCH, *shape)
    output = custom.trial_output(network, "images", inputs, classes)
    if output.ndim != 2 or len(output) != TRIAL_BATCH or output.shape[1] == 0:
        raise custom.wrong_shape(output, f"({TRIAL_BATCH}, features)", f"images {inputs}")
    return network, output.shape[1]


def build_decoder(config: ResolvedModelConfig, shape: tuple[int, ...], planes: int, classes: int) -> nn.Module:
    """Return the decoder of `config`, which outputs `planes` parameters per value of an image of `shape`.

    A ConfigError if it cannot be imported or constructed, or does not return (batch, planes, *shape) for latents.
    """
    arguments = {"shape": shape, "planes": planes, "latent_dim": config.latent_dim, "classes": classes}
    arguments |= {"width": config.width, "depth": config.depth}
    if not config.decoder:
        return _construct(NETWORKS[config.network][1], arguments)
    custom = CustomNetwork("decoder", config.decoder)
    network = custom.construct(arguments)
    latents = (TRIAL_BATCH, config.latent_dim)
    output = custom.trial_output(network, "latents", latents, classes)
    if output.shape != (expected := (TRIAL_BATCH, planes, *shape)):
        raise custom.wrong_shape(output, str(expected), f"latents {latents}")
    return network


def _construct(make: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Call `make` with those of `arguments` that its signature names."""
    parameters = inspect.signature(make).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return make(**arguments)
    names = [parameter.name for parameter in parameters]
    return make(**{name: value for name, value in arguments.items() if name in names})


class CustomNetwork(NamedTuple):
    """A custom network: the parameter it was given for, and its import path. Methods that use it raise ConfigErrors."""

    name: str
    path: str

    def error(self, text: str) -> ConfigError:
        """Return the error that says `text` of this network."""
        return ConfigError(f"`{self.name}='{self.path}'`: {text}")

    def wrong_shape(self, output: Tensor, expected: str, given: str) -> ConfigError:
        """Return the error for an output of another shape than expected."""
        return self.error(f"given {given}, it returned shape {tuple(output.shape)}; expected {expected}")

    def imported(self) -> Callable[..., Any]:
        """Import the class or function that makes the network."""
        module_name, qualified = self.path.split(":")
        try:
            found: Any = importlib.import_module(module_name)
        except Exception as error:
            reason, missing = one_line(error), error.name if isinstance(error, ModuleNotFoundError) else None
            text = (
                f"module {module_name} was found, but its import fails ({reason}); correct it and check it with python -c "
                f"'import {module_name}'"
            )
            if missing is not None and f"{module_name}.".startswith(f"{missing}."):
                text = (
                    f"cannot import {module_name} ({reason}); add its folder to the path, with PYTHONPATH=FOLDER vaelab … "
                    "or, in Python, sys.path.insert(0, 'FOLDER')"
                )
            raise self.error(text) from error
        for part in qualified.split("."):
            if not hasattr(found, part):
                hint = did_you_mean(part, vars(found))
                raise self.error(f"module {module_name} has no {qualified}; expected the name of a class in it.{hint}")
            found = getattr(found, part)
        if not callable(found):
            raise self.error(f"got an object of type {type(found).__name__}; expected a class")
        return found

    def construct(self, arguments: dict[str, Any]) -> nn.Module:
        """Import and construct the network, and check its layers and weights."""
        make = self.imported()
        try:
            network = _construct(make, arguments)
        except Exception as error:
            accepted = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
            text = f"cannot be constructed ({one_line(error)}); expected a class that takes only these: {accepted}"
            raise self.error(text) from error
        if not isinstance(network, nn.Module):
            raise self.error(f"got an object of type {type(network).__name__}; expected a torch.nn.Module")
        for place, weight in network.named_parameters():
            if not weight.requires_grad:
                raise self.error(
                    f"weight {place} has requires_grad=False; all weights are trained: use register_buffer for a constant"
                )
        return network

    def trial_output(self, network: nn.Module, kind: str, shape: tuple[int, ...], classes: int) -> Tensor:
        """Return the output of `network` for noise of `shape` and label 0, in its own mode."""
        inputs = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        labels = torch.eye(classes)[:1].expand(len(inputs), -1) if classes else None
        given = f"given {kind} {shape} and labels {None if labels is None else tuple(labels.shape)}"
        before = {place: buffer.clone() for place, buffer in network.named_buffers()}
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                output = network(inputs, labels)
        except Exception as error:
            raise self.error(f"{given}, it failed ({one_line(error)}); expected it to accept these") from error
        for place, buffer in network.named_buffers():
            if not torch.equal(buffer, before[place]):
                raise self.error(
                    f"buffer {place} changes during training, such as running statistics do, and does not match averaged "
                    "weights; use nn.GroupNorm or nn.LayerNorm instead of batch normalisation"
                )
        if not isinstance(output, Tensor):
            raise self.error(f"{given}, it returned a {type(output).__name__}; expected a tensor")
        if output.dtype != torch.float32:
            raise self.error(f"{given}, it returned {output.dtype}; expected torch.float32")
        if not output.isfinite().all():
            raise self.error(f"{given}, it returned NaN or infinity; expected finite numbers")
        return output


def one_line(error: Exception) -> str:
    """Return type and message of an exception on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
