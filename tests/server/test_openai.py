"""OpenAI's own client against a running service: embeddings, models, and errors that say what is wrong."""

from collections.abc import Iterator

import numpy as np
import openai
import pytest
from tests.client.running import running_service, tiny_text_bundle
from tests.encoding.importing.checkpoints import DIMS
from tests.waiting import PATIENCE_SECONDS

import bebr
from bebr import errors
from bebr.cli.server.running import Service

TEXTS = ["parse a date", "binary codes"]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """With three versions of a model; it takes two keys."""
    folder = tmp_path_factory.mktemp("service")
    for version in ("9", "10", "2"):
        tiny_text_bundle(folder / "bundles", folder / version, "mini", version)
    keys = {"api_keys": ("sesame",), "read_only_api_keys": ("reader",)}
    with running_service(folder, bundles_dir=folder / "bundles", max_batch_bytes=4096, **keys) as service:
        yield service


@pytest.fixture
def url(service: Service) -> str:
    return f"{service.url}/v1"


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=url, api_key="sesame", max_retries=0) as client:
        yield client


def test_embeddings(client: openai.OpenAI) -> None:
    found = client.embeddings.create(model="mini@9", input=TEXTS)
    rows = np.array([entry.embedding for entry in found.data])
    assert rows.shape == (2, DIMS) and np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert (found.object, found.model, found.usage.total_tokens) == ("list", "mini@9", found.usage.prompt_tokens)
    floats = client.embeddings.create(model="mini@9", input=TEXTS, encoding_format="float")
    assert np.allclose([entry.embedding for entry in floats.data], rows, atol=1e-6)
    one = client.embeddings.create(
        model="mini",
        input=TEXTS[0],
        dimensions=DIMS,
        user="me",
        timeout=PATIENCE_SECONDS,
        extra_headers={"x-mine": "1", "OpenAI-Organization": "us"},
        extra_body={"kind": "query"},
    )
    assert one.model == "mini@10", "a name alone is the newest version"
    assert len(one.data) == 1


def test_models(client: openai.OpenAI) -> None:
    found = {model.id: model for model in client.models.list()}
    assert {"mini@2", "mini@9", "mini@10"} <= set(found)
    assert found["mini@9"].object == "model" and found["mini@9"].created > 1_700_000_000
    assert client.models.retrieve("mini@9") == found["mini@9"]
    assert client.models.retrieve("mini") == found["mini@10"]
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.retrieve("text-embedding-3-small")
    assert missing.value.code == "model_not_found" and "mini@9" in missing.value.message
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("org/model")


def test_errors_say_what_is_wrong(client: openai.OpenAI, url: str) -> None:
    def fails(kind: type[openai.APIStatusError], **request: object) -> openai.APIStatusError:
        with pytest.raises(kind) as caught:
            client.embeddings.create(**({"model": "mini", "input": "fox"} | request))
        assert caught.value.request_id and caught.value.type and caught.value.code
        return caught.value

    assert fails(openai.NotFoundError, model="gpt-4").code == "model_not_found"
    assert "check_embedding_ctx_length=False" in fails(openai.BadRequestError, input=[1, 2, 3]).message
    assert "check_embedding_ctx_length=False" in fails(openai.BadRequestError, input=[[1, 2], [3]]).message
    wrong = fails(openai.BadRequestError, dimensions=DIMS + 1)
    assert wrong.param == "dimensions" and str(DIMS) in wrong.message
    assert fails(openai.BadRequestError, input=["fox", ""]).param == "input[1]"
    assert fails(openai.BadRequestError, extra_query={"api-version": "2024"}).param == "api-version"
    assert fails(openai.BadRequestError, extra_body={"stream": True}).param == "stream"
    assert fails(openai.APIStatusError, input="fox " * 2000).status_code == 413
    with openai.OpenAI(base_url=url, api_key="wrong", max_retries=0) as stranger:
        with pytest.raises(openai.AuthenticationError) as caught:
            stranger.embeddings.create(model="mini", input="fox")
        assert (caught.value.code, caught.value.type) == ("invalid_api_key", "authentication_error")


def test_refusals_are_the_errors_that_its_users_catch(client: openai.OpenAI, service: Service, url: str) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as malformed:
        headers = {"content-type": "application/json"}
        client.post("/embeddings", content=b'{"model": ', options={"headers": headers}, cast_to=object)
    assert (malformed.value.status_code, malformed.value.code) == (422, "malformed")
    assert malformed.value.type == "invalid_request_error" and "line 1" in malformed.value.message
    with openai.OpenAI(base_url=url, api_key="reader", max_retries=0) as reader:
        assert len(reader.embeddings.create(model="mini", input="fox").data) == 1, "that only reads"
        with pytest.raises(openai.PermissionDeniedError, match="read-only") as denied:
            reader.models.delete("mini@9")
    assert (denied.value.status_code, denied.value.code) == (403, "forbidden")
    assert denied.value.type == "permission_error"
    lane = service._app._app.state.services.engine.admission.embedding_requests
    key = service._app._app.state.keys.name([(b"api-key", b"sesame")])
    lane.enter(key, 1_000_000)
    try:
        with pytest.raises(openai.RateLimitError, match="try again later") as busy:
            client.embeddings.create(model="mini", input="fox")
    finally:
        lane.leave(key, 1_000_000, done=False)
    assert (busy.value.status_code, busy.value.code) == (429, "rate_limit_exceeded")
    assert busy.value.type == "rate_limit_error" and int(busy.value.response.headers["retry-after"]) >= 1
    for error in (malformed.value, denied.value, busy.value):
        assert error.request_id


async def test_asynchronously(url: str) -> None:
    async with openai.AsyncOpenAI(base_url=url, api_key="sesame", max_retries=0) as client:
        found = await client.embeddings.create(model="mini", input=TEXTS)
        assert len(found.data) == 2
        assert [model.id async for model in client.models.list()]
        with pytest.raises(openai.NotFoundError):
            await client.embeddings.create(model="nope@1", input="fox")


def test_our_client_still_raises_our_errors(url: str) -> None:
    with bebr.Client(url.removesuffix("/v1"), api_key="sesame") as client:
        assert client.embed(TEXTS, model="mini").shape == (2, DIMS)
        with pytest.raises(errors.BundleNotFound, match="on hand"):
            client.embed(TEXTS, model="nope@1")
        with pytest.raises(errors.InvalidText) as caught:
            client.embed([""], model="mini")
        assert caught.value.fields["key"] == "input[0]"
    with bebr.Client(url.removesuffix("/v1"), api_key="wrong") as client, pytest.raises(errors.Unauthorized):
        client.embed(TEXTS, model="mini")
