"""The HTTP interface of a served model: paths, the form of requests and answers, and their description in OpenAPI."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection
from typing import Annotated, Any

import numpy as np
from fastapi import Body, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.responses import JSONResponse, PlainTextResponse, Response

from vaelab.errors import VaelabError, did_you_mean, printable
from vaelab.serving.admission import Admission, write_log
from vaelab.serving.guard import Guarded
from vaelab.serving.limits import Limits
from vaelab.serving.model import OnnxModel
from vaelab.serving.pictures import to_png
from vaelab.serving.service import Service
from vaelab.version import __version__

MOST_DRAWS = 1000

Label = Annotated[str, StringConstraints(max_length=1000)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Images = list[str] | list[list[float]]
"""PNG files in base64 or, for a model of a table, rows."""


class Asked(BaseModel):
    """A request."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Sample(Asked):
    """Number and labels of images to generate."""

    labels: list[Label] | None = Field(None, description="Class name of each image, for a conditional model")
    count: int | None = Field(None, ge=1, description="Number of images, for a model without labels; default 1")
    temperature: float = Field(1.0, ge=0, le=100, description="Standard deviation of the latents")
    seed: Seed | None = Field(None, description="The same seed gives the same images; default: a new one")


class Encode(Asked):
    """Images and their labels."""

    images: Images = Field(min_length=1, description="PNG files in base64, or rows of a table")
    labels: list[Label | None] | None = Field(None, description="Class name of each image; missing ones are inferred")


class Reconstruct(Encode):
    """Images to encode and decode."""

    draw: bool = Field(False, description="Decode a draw from the posterior instead of its mean")
    seed: Seed = 0


class Restyle(Encode):
    """Images, and labels to draw in their style."""

    targets: list[Label] | None = Field(None, min_length=1, description="Class names to draw; default: all")


class Score(Encode):
    """Images to score."""

    draws: int = Field(16, ge=1, le=MOST_DRAWS, description="Draws of z per image")
    seed: Seed = 0


class Sampled(BaseModel):
    """Generated images."""

    images: Images
    labels: list[str] | None
    seed: int


class Encoded(BaseModel):
    """Posteriors."""

    mean: list[list[float]]
    log_variance: list[list[float]] | None = Field(description="null for an autoencoder, whose posterior is a point")
    labels: list[str] | None


class Reconstructed(BaseModel):
    """Reconstructions."""

    images: Images
    labels: list[str] | None


class Restyled(BaseModel):
    """Restyled images."""

    images: list[list[str]] | list[list[list[float]]] = Field(
        description="One list per image, with one entry per target"
    )
    labels: list[str] | None
    targets: list[str]


class Scored(BaseModel):
    """ELBO of each image."""

    elbo: list[float] = Field(description="−distortion − rate, a lower bound on log p(x) or log p(x|y), in nats")
    standard_error: list[float] | None = Field(description="Of the ELBO, in nats; null for one draw")
    distortion: list[float] = Field(description="Mean of −log p(x|z) over the draws, in nats")
    rate: list[float] = Field(description="KL(q(z|x) ‖ p(z)), in nats")
    draws: int
    labels: list[str] | None
    seed: int


class Described(BaseModel):
    """The model and the limits of a request."""

    model: str = Field(description="ae, vae or cvae; a cvae takes labels")
    likelihood: str
    shape: list[int] = Field(description="[C, H, W] of an image, or [D] of a row of a table")
    classes: list[str]
    latent_dim: int
    data: dict[str, Any] | None
    licence: str
    vaelab: str = Field(description="Version that exported the model")
    limits: dict[str, float]


class State(BaseModel):
    """State of the server."""

    status: str


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str


REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "Not JSON"},
    413: {"model": Problem, "description": "Body too large"},
    422: {"model": Problem, "description": "Not a valid request for this model"},
    503: {"model": Problem, "description": "Too many requests, or no answer in time; see Retry-After"},
}
NO_TOKEN: dict[int | str, dict[str, Any]] = {401: {"model": Problem, "description": "No valid token"}}


def serving_app(
    model: OnnxModel,
    limits: Limits,
    *,
    hosts: Collection[str] | None,
    token: str | None = None,
    stopping: Callable[[], bool] = lambda: False,
    log: Callable[[dict[str, Any]], None] = write_log,
) -> FastAPI:
    """Return the application that serves a model.

    Parameters
    ----------
    hosts
        Accepted values of the header `Host`; None: all.
    token
        Token that requests must bear; None: none.
    stopping
        Returns whether the server is being stopped.
    log
        Called with an entry for each request.
    """
    service, facts = Service(model, limits), model.facts
    app = FastAPI(title="vaelab serve", version=__version__, docs_url=None, redoc_url=None)
    paths = {"/healthz", "/readyz", "/metrics", "/openapi.json"}
    paths |= {f"/v1/{name}" for name in ("model", "sample", "encode", "reconstruct", "restyle", "score")}
    admission: list[Admission] = []

    def admit(inner: Any) -> Admission:
        admission.append(Admission(inner, limits, token, paths, log))
        return admission[0]

    app.add_middleware(admit)  # type: ignore[arg-type]
    app.add_middleware(Guarded, hosts=hosts)
    refusals = REFUSALS if token is None else REFUSALS | NO_TOKEN
    example = _examples(model)

    @app.exception_handler(VaelabError)
    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: Exception) -> Response:
        text = _said(error) if isinstance(error, RequestValidationError) else str(error)
        return JSONResponse({"detail": printable(text)[:500]}, 422)

    given = Body(openapi_examples=example["sample"])

    @app.post("/v1/sample", response_model=Sampled, responses=refusals)
    async def sample(asked: Sample = given) -> Response:
        """Generate images."""
        seed = secrets.randbits(63) if asked.seed is None else asked.seed
        return JSONResponse(await service.sample(asked.labels, asked.count, asked.temperature, seed))

    given = Body(openapi_examples=example["images"])

    @app.post("/v1/encode", response_model=Encoded, responses=refusals)
    async def encode(asked: Encode = given) -> Response:
        """Return mean and log-variance of the posterior of each image."""
        return JSONResponse(await service.encode(asked.images, asked.labels))

    @app.post("/v1/reconstruct", response_model=Reconstructed, responses=refusals)
    async def reconstruct(asked: Reconstruct = given) -> Response:
        """Encode images and decode them again."""
        return JSONResponse(await service.reconstruct(asked.images, asked.labels, asked.draw, asked.seed))

    @app.post("/v1/restyle", response_model=Restyled, responses=refusals)
    async def restyle(asked: Restyle = given) -> Response:
        """Draw other labels in the style of each image."""
        return JSONResponse(await service.restyle(asked.images, asked.labels, asked.targets))

    @app.post("/v1/score", response_model=Scored, responses=refusals)
    async def score(asked: Score = given) -> Response:
        """Return the ELBO of each image in nats."""
        return JSONResponse(await service.score(asked.images, asked.labels, asked.draws, asked.seed))

    @app.get("/v1/model", response_model=Described, responses={} if token is None else NO_TOKEN)
    async def described() -> Response:
        """Return what the model is, and the limits of a request."""
        known = {"model": facts.kind, "likelihood": facts.likelihood, "shape": facts.shape, "classes": facts.classes}
        known |= {"latent_dim": facts.latent_dim, "data": facts.data, "licence": facts.licence, "vaelab": facts.vaelab}
        return JSONResponse(known | {"limits": vars(limits)})

    @app.get("/healthz", response_model=State)
    async def health() -> Response:
        """Return whether the server runs."""
        return JSONResponse({"status": "running"})

    @app.get("/readyz", response_model=State, responses={503: {"model": State, "description": "Being stopped"}})
    async def ready() -> Response:
        """Return whether the server takes requests."""
        return JSONResponse({"status": "stopping"}, 503) if stopping() else JSONResponse({"status": "ready"})

    @app.get("/metrics", response_class=PlainTextResponse, responses={} if token is None else NO_TOKEN)
    async def metrics() -> Response:
        """Return counts and times of requests for Prometheus."""
        both = {"encoder": service.encoder, "decoder": service.decoder}
        more = {f"{name}_batches": part.batches for name, part in both.items()}
        more |= {f"{name}_rows": part.rows for name, part in both.items()}
        return PlainTextResponse(admission[0].text(more), media_type="text/plain; version=0.0.4")

    return app


def _examples(model: OnnxModel) -> dict[str, dict[str, Any]]:
    """Return an example of each kind of request: with an image that the model draws itself."""
    facts = model.facts
    label = facts.classes[:1] if facts.conditional else ()
    x = model.decode(np.zeros((1, facts.latent_dim)), np.array([0]) if label else None)[0][0]
    labels = {"labels": list(label)} if label else {}
    images = {"images": [to_png(x) if facts.of_images else x.tolist()], **labels}
    return {
        "sample": {"one": {"value": {**(labels or {"count": 1}), "seed": 0}}},
        "images": {"one": {"value": images}},
    }


def _said(error: RequestValidationError) -> str:
    """Return the first mistake in a request, without the content of the request."""
    first = error.errors()[0]
    place = ".".join(str(part)[:100] for part in first["loc"][1:])
    if first["type"] == "extra_forbidden":
        known = {name for kind in (Sample, Reconstruct, Restyle, Score) for name in kind.model_fields}
        return (
            f"`{place}`: not a field of this request; leave it out.{did_you_mean(str(first['loc'][-1])[:100], known)}"
        )
    return f"`{place}`: {first['msg']}" if place else f"the body is not valid: {first['msg']}; expected a JSON object"
