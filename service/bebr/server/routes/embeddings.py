"""Embeddings for those who want the vectors themselves, in the shape that OpenAI's clients expect."""

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from numpy.typing import NDArray
from starlette.responses import Response

from bebr.encoding.encoder import Encoder
from bebr.errors import BundleNotFound, DamagedBundle, DimensionMismatch, InvalidText, Overloaded
from bebr.server import requests, responses
from bebr.server.bodies import JSON
from bebr.server.context import EngineOf, read_json
from bebr.server.openapi import STORE, Operation
from bebr.server.requests import EncodingFormat
from bebr.server.responses import json_response
from bebr.server.validation import at_fault

router = APIRouter()

EMBED = Operation(
    "Embed texts",
    "embeddings",
    responses.EmbeddingsAnswer,
    errors=(BundleNotFound, DamagedBundle, DimensionMismatch, InvalidText, Overloaded, *STORE),
    body={JSON: requests.Embeddings},
    description="In the shape of OpenAI's endpoint of that name. `code` gives what `code_b64` takes in points and "
    "searches.",
)


@router.post("/v1/embeddings", **EMBED.route_options())
async def embed(request: Request, engine: EngineOf) -> Response:
    body = await read_json(request, requests.Embeddings)
    texts = [body.input] if isinstance(body.input, str) else body.input
    with at_fault("model", BundleNotFound):
        encoder, embeddings = await engine.embed(body.model, texts, body.kind)
    if body.dimensions not in (None, embeddings.shape[1]):
        raise DimensionMismatch(
            f"'{encoder.bundle.id}' gives {embeddings.shape[1]} dimensions, which cannot become {body.dimensions}",
            key="dimensions",
            expected=embeddings.shape[1],
        )
    written = _WRITERS[body.encoding_format](encoder, embeddings)
    tokens = encoder.count_tokens(texts, body.kind)
    return json_response(
        {
            "object": "list",
            "data": [{"object": "embedding", "index": i, "embedding": value} for i, value in enumerate(written)],
            "model": encoder.bundle.id,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )


def _floats(_: Encoder, embeddings: NDArray[np.float32]) -> list[Any]:
    values: list[Any] = embeddings.tolist()
    return values


def _base64(_: Encoder, embeddings: NDArray[np.float32]) -> list[Any]:
    return [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in embeddings]


def _ubinary(_: Encoder, embeddings: NDArray[np.float32]) -> list[Any]:
    """Eight signs a byte, the first dimension in the highest bit, as others do it."""
    values: list[Any] = np.packbits(embeddings > 0, axis=1).tolist()
    return values


def _binary(_: Encoder, embeddings: NDArray[np.float32]) -> list[Any]:
    """The same bytes, moved by 128 into int8."""
    values: list[Any] = (np.packbits(embeddings > 0, axis=1).astype(np.int16) - 128).tolist()
    return values


def _code(encoder: Encoder, embeddings: NDArray[np.float32]) -> list[Any]:
    return [base64.b64encode(record.tobytes()).decode() for record in encoder.encode(embeddings)]


_WRITERS: dict[EncodingFormat, Callable[[Encoder, NDArray[np.float32]], list[Any]]] = {
    EncodingFormat.FLOAT: _floats,
    EncodingFormat.BASE64: _base64,
    EncodingFormat.BINARY: _binary,
    EncodingFormat.UBINARY: _ubinary,
    EncodingFormat.CODE: _code,
}
