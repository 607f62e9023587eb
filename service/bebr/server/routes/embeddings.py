"""Embeddings for those who want the vectors themselves, in the shape that OpenAI's clients expect."""

import asyncio
import base64
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from numpy.typing import NDArray
from starlette.responses import Response

from bebr.engine.results import Embedded
from bebr.errors import (
    BundleNotFound,
    DamagedBundle,
    DeadlineExceeded,
    DimensionMismatch,
    InvalidOption,
    InvalidText,
    Overloaded,
)
from bebr.server.access import Access
from bebr.server.bodies import JSON
from bebr.server.context import EngineOf, read_batch
from bebr.server.openai import EMBEDDINGS_PATH, MODELS_PATH
from bebr.server.openapi import STORE, Operation
from bebr.server.requests.embeddings import Embeddings, EncodingFormat
from bebr.server.responses.base import json_response
from bebr.server.responses.embeddings import Embedding, EmbeddingsAnswer, Model, ModelList, Usage
from bebr.server.validation import at_fault

router = APIRouter()

EMBED = Operation(
    "Embed texts",
    "embeddings",
    EmbeddingsAnswer,
    access=Access.READ,
    errors=(BundleNotFound, DamagedBundle, DimensionMismatch, InvalidText, Overloaded, DeadlineExceeded, *STORE),
    body={JSON: Embeddings},
    for_openai=True,
    description="In the shape of OpenAI's endpoint of that name.",
)
LIST = Operation(
    "List embedding models",
    "embeddings",
    ModelList,
    access=Access.READ,
    for_openai=True,
    description="The bundles that embed texts, in the shape of OpenAI's endpoint of that name.",
)
GET = Operation(
    "Get an embedding model", "embeddings", Model, access=Access.READ, errors=(BundleNotFound,), for_openai=True
)


FEW_TEXTS = 16
"""Answers for more texts are written in a thread: embeddings are long lists of numbers."""


@router.get(MODELS_PATH, **LIST.route_options())
async def list_models(engine: EngineOf) -> Response:
    return json_response(ModelList(object="list", data=[Model.of(bundle) for bundle in engine.list_models()]))


@router.get(MODELS_PATH + "/{model:path}", **GET.route_options())
async def get_model(model: str, engine: EngineOf) -> Response:
    return json_response(Model.of(engine.find_model(model)))


@router.post(EMBEDDINGS_PATH, **EMBED.route_options())
async def embed(request: Request, engine: EngineOf) -> Response:
    body = await read_batch(request, Embeddings, "input")
    texts = [body.input] if isinstance(body.input, str) else body.input
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidOption(f"input[{number}]: a text was expected", key=f"input[{number}]")
    with at_fault("model", BundleNotFound):
        embedded = await engine.embed(body.model, texts, body.kind, body.encoding_format is EncodingFormat.CODE)
    dims = embedded.embeddings.shape[1]
    if body.dimensions not in (None, dims):
        raise DimensionMismatch(
            f"the embeddings of '{embedded.bundle}' have {dims} dimensions, not {body.dimensions}; leave 'dimensions' "
            "out",
            key="dimensions",
            expected=dims,
        )
    encoding = body.encoding_format or EncodingFormat.FLOAT
    if len(texts) <= FEW_TEXTS:
        return _answer(embedded, encoding)
    return await asyncio.to_thread(_answer, embedded, encoding)


def _answer(embedded: Embedded, encoding: EncodingFormat) -> Response:
    written = _write(embedded, encoding)
    data = [Embedding(object="embedding", index=i, embedding=value) for i, value in enumerate(written)]
    usage = Usage(prompt_tokens=embedded.tokens, total_tokens=embedded.tokens)
    return json_response(EmbeddingsAnswer(object="list", data=data, model=embedded.bundle, usage=usage))


def _write(embedded: Embedded, encoding: EncodingFormat) -> list[Any]:
    """One value for each text."""
    rows = embedded.embeddings
    match encoding:
        case EncodingFormat.FLOAT:
            values: list[Any] = rows.tolist()
        case EncodingFormat.BASE64:
            values = _base64(rows.astype("<f4"))
        case EncodingFormat.UBINARY:
            values = _signs(rows).tolist()
        case EncodingFormat.BINARY:
            values = (_signs(rows).astype(np.int16) - 128).tolist()  # the same bytes, moved into int8
        case EncodingFormat.CODE:
            assert embedded.records is not None, "codes were requested"
            values = _base64(embedded.records)
    return values


def _signs(rows: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Eight signs per byte, the first dimension in the highest bit, as other services do it."""
    return np.packbits(rows > 0, axis=1)


def _base64(rows: NDArray[Any]) -> list[str]:
    return [base64.b64encode(row.tobytes()).decode() for row in rows]
