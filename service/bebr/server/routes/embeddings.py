"""Embeddings for those who want the vectors themselves, in the shape that OpenAI's clients expect."""

import base64
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from numpy.typing import NDArray
from pydantic_core import to_json
from starlette.responses import Response

from bebr.engine.results import Embedded
from bebr.errors import (
    AnswerTooLarge,
    BundleNotFound,
    DamagedBundle,
    DeadlineExceeded,
    DimensionMismatch,
    InvalidOption,
    InvalidText,
    Overloaded,
)
from bebr.server.access import Access
from bebr.server.bodies.body import JSON
from bebr.server.context import EngineOf, read_batch
from bebr.server.openai import EMBEDDINGS_PATH, MODELS_PATH
from bebr.server.openapi import STORE, Operation
from bebr.server.requests.embeddings import Embeddings, EncodingFormat
from bebr.server.responses.base import json_response, written
from bebr.server.responses.embeddings import EmbeddingsAnswer, Model, ModelList, Usage
from bebr.server.validation import at_fault

router = APIRouter()
VALUE_BYTES = {
    EncodingFormat.FLOAT: 22.0,
    EncodingFormat.BASE64: 16 / 3,
    EncodingFormat.BINARY: 0.6,
    EncodingFormat.UBINARY: 0.5,
    EncodingFormat.CODE: 2.0,
}
"""What one number of an embedding takes in an answer, at most."""

EMBED = Operation(
    "Embed texts",
    "embeddings",
    EmbeddingsAnswer,
    access=Access.READ,
    errors=(
        BundleNotFound,
        DamagedBundle,
        DimensionMismatch,
        AnswerTooLarge,
        InvalidText,
        Overloaded,
        DeadlineExceeded,
        *STORE,
    ),
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
    encoding = body.encoding_format or EncodingFormat.FLOAT
    with at_fault("model", BundleNotFound):
        embedded = await engine.embed(
            body.model, texts, body.kind, encoding is EncodingFormat.CODE, VALUE_BYTES[encoding]
        )
    dims = embedded.embeddings.shape[1]
    if body.dimensions not in (None, dims):
        raise DimensionMismatch(
            f"the embeddings of '{embedded.bundle}' have {dims} dimensions, not {body.dimensions}; leave 'dimensions' "
            "out",
            key="dimensions",
            expected=dims,
        )
    size_bytes = int(len(texts) * dims * VALUE_BYTES[encoding])
    return json_response(await written(size_bytes, _answer, embedded, encoding))


def _answer(embedded: Embedded, encoding: EncodingFormat) -> bytes:
    """An `EmbeddingsAnswer`, value by value: one call for all of them would hold the interpreter for long."""
    values = enumerate(map(to_json, _write(embedded, encoding)))
    data = b",".join(b'{"object":"embedding","index":%d,"embedding":%s}' % item for item in values)
    usage = Usage(prompt_tokens=embedded.tokens, total_tokens=embedded.tokens).model_dump_json().encode()
    model = to_json(embedded.bundle)
    return b'{"object":"list","data":[%s],"model":%s,"usage":%s}' % (data, model, usage)


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
