"""The shapes of requests: validated with these models, and documented by them. Answers stand in `answers`.

A field that is not here is refused. Ids, filters and points stay raw JSON here, because the engine checks them one by
one; `Point` and `FilterTree` only describe them.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, WithJsonSchema
from pydantic.config import JsonDict, JsonValue

from bebr.core.scoring import Scorer
from bebr.core.types import FieldType
from bebr.encoding import AdapterKind, TextKind

EXAMPLE_FILTER: JsonDict = {
    "must": [{"key": "lang", "match": {"value": "en"}}, {"key": "year", "range": {"gte": 2020}}]
}
EXAMPLE_POINT: JsonDict = {
    "id": "a",
    "text": "parse a date from a string",
    "metadata": {"lang": "en", "year": 2024},
}
EXAMPLE_SEARCH: JsonDict = {"text": "how do I parse a date", "limit": 3, "filter": EXAMPLE_FILTER}
_SOURCES = ("text", "vector", "vector_b64", "code_b64")
_NOT_NULL: JsonDict = {"not": {"type": "null"}}
_ID: JsonDict = {"type": "string", "minLength": 1, "maxLength": 256}
Ids = Annotated[
    list[Any],
    WithJsonSchema({"type": "array", "items": _ID}),
    Field(description="Point ids: strings of up to 256 bytes.", examples=[["a", "b"]]),
]
Filter = Annotated[
    dict[str, Any],
    WithJsonSchema({"$ref": "#/components/schemas/FilterTree"}),
    Field(examples=[EXAMPLE_FILTER]),
]
WithMetadata = Annotated[
    bool | list[str], Field(description="True: all metadata, false: none, or the names of the fields wanted.")
]


class Body(BaseModel):
    """Base of every request body: unknown fields are errors, and 7 is not '7'."""

    model_config = ConfigDict(extra="forbid", strict=True)


def documented(example: JsonDict, exactly_one: Sequence[str] = ()) -> ConfigDict:
    """What a model's schema says beside its fields: an example that works when it is sent, and that exactly one of some
    fields is there."""
    alternatives: list[JsonValue] = [{"required": [name], "properties": {name: _NOT_NULL}} for name in exactly_one]
    return ConfigDict(json_schema_extra={"examples": [example], **({"oneOf": alternatives} if alternatives else {})})


class EncodingFormat(StrEnum):
    """How an embedding is written in the answer of /v1/embeddings."""

    FLOAT = "float"
    BASE64 = "base64"
    BINARY = "binary"
    UBINARY = "ubinary"
    CODE = "code"


class FilterTree(Body):
    """All of `must`, at least one of `should`, none of `must_not`."""

    must: list["Condition"] = []
    should: list["Condition"] = []
    must_not: list["Condition"] = []


class MatchCondition(Body):
    """The field equals `value`, is one of `any`, or is there and none of `except`; keyword[] fields contain it."""

    key: str = Field(examples=["lang"])
    match: dict[Literal["value", "any", "except"], Any] = Field(min_length=1, max_length=1, examples=[{"value": "en"}])


class RangeCondition(Body):
    """All bounds hold for the number."""

    key: str = Field(examples=["year"])
    range: dict[Literal["gte", "gt", "lte", "lt"], float] = Field(min_length=1, examples=[{"gte": 2020}])


class EmptyField(Body):
    key: str = Field(examples=["lang"])


class IsEmptyCondition(Body):
    """The field is missing, null or []."""

    is_empty: EmptyField


class HasIdCondition(Body):
    """The point has one of these ids."""

    has_id: Ids


Condition = MatchCondition | RangeCondition | IsEmptyCondition | HasIdCondition | FilterTree


class OwnFit(Body):
    """A binarizer of the collection's own, fitted to its first embeddings."""

    model_config = documented({"bytes": 64, "sample": 20_000})
    bytes: int = Field(ge=1, description="Size of a code; which bits go where is chosen by measurement.")
    sample: int | None = Field(None, ge=1, description="Embeddings to gather first; 20,000 unless given.")
    dims: int | None = Field(None, ge=1, description="Dims of your own embeddings, where there is no bundle.")


class CreateCollection(Body):
    model_config = documented({"bundle": "minilm@1", "filterable": {"lang": "keyword", "year": "integer"}})
    bundle: str | None = Field(None, description="Bundle id, for example 'minilm@1'.", examples=["minilm@1"])
    code: str | None = Field(
        None, description="CodeSpec, when you bring codes of your own and no bundle.", examples=["256x2"]
    )
    fit: OwnFit | None = Field(
        None,
        description="With a bundle, or with `dims` for embeddings of your own. The bundle's binarizer is not used.",
    )
    shards: int = Field(2, ge=1, description="Slices that are scanned in parallel.")
    filterable: dict[str, FieldType] = Field(
        {}, description="Metadata fields that filters may use.", examples=[{"lang": "keyword", "year": "integer"}]
    )
    text_field: str | None = Field(
        None,
        min_length=1,
        max_length=256,
        description="Metadata field that keeps the text of a point, so that it can be encoded by another model later. "
        "The `text` that a point is written with goes there, where its metadata does not have the field.",
        examples=["text"],
    )


class FitCollection(Body):
    """What is left out stays as it was at the last fit; before the first one it is the size of the present codes."""

    model_config = documented({"sample": 20_000})
    bytes: int | None = Field(None, ge=1, description="Size of a code.")
    sample: int | None = Field(None, ge=1, description="Embeddings to gather first.")
    now: bool = Field(False, description="Fit to what is buffered already.")


class AttachVersion(Body):
    model_config = documented({"bundle": "minilm@1"})
    bundle: str = Field(description="Bundle id.", examples=["minilm@1"])


class JudgedQuery(Body):
    """Exactly one of `text` and `vectors`."""

    model_config = documented({"text": "parse a date", "relevant": ["a"]}, exactly_one=("text", "vectors"))
    text: str | None = Field(None, examples=["parse a date"])
    vectors: dict[str, list[float]] | None = Field(
        None, description="Embeddings of the query, by id of the version whose model made each."
    )
    relevant: list[str] | dict[str, Annotated[float, Field(ge=0, le=1000)]] | None = Field(
        None, description="Ids of the points that answer the query, or grades by id.", examples=[["a"]]
    )


class EvaluateVersion(Body):
    """With `queries`, or with `sample` of the points as queries, which need their texts (`text_field`)."""

    model_config = documented({"version": "minilm@1", "sample": 200, "points": 2_000})
    version: str | None = Field(None, description="Id of the version; the newest that is not active unless given.")
    queries: list[JudgedQuery] | None = Field(None, min_length=1, description="All with `relevant`, or none.")
    sample: int | None = Field(None, ge=1, description="Points that stand in for queries; 300 unless given.")
    points: int = Field(2_000, ge=1, description="Points to measure on; each is embedded by the new model.")
    adapter: AdapterKind | None = Field(None, description="Kind of adapter to report on. Default: the best of all.")
    seed: int = Field(0, ge=0, description="Decides which points are drawn.")


class PromotionGate(Body):
    min_gain: FiniteFloat = Field(default=0.0, description="What new->old must gain over old->old.")


class PromoteVersion(Body):
    model_config = documented({"version": "minilm@1", "gate": {"min_gain": 0.0}})
    version: str = Field(examples=["minilm@1"])
    gate: PromotionGate = Field(default_factory=PromotionGate)
    force: bool = Field(False, description="Promote though the gate fails; it is recorded.")
    adapter: AdapterKind | None = Field(
        None, description="Adapter to existing codes. Default: the one that measured best."
    )


class Backfill(Body):
    model_config = documented({"rate_limit": 100})
    version: str | None = Field(None, description="Id of the active version.")
    rate_limit: FiniteFloat | None = Field(None, gt=0, description="Points a second at most; a setting unless given.")


class CreateAlias(Body):
    alias: str = Field(examples=["prod"])
    collection: str = Field(examples=["docs"])


class DeleteAlias(Body):
    alias: str = Field(examples=["prod"])


class AliasAction(Body):
    """Exactly one of `create` and `delete`."""

    model_config = documented({"delete": {"alias": "prod"}}, exactly_one=("create", "delete"))
    create: CreateAlias | None = None
    delete: DeleteAlias | None = None


class UpdateAliases(Body):
    model_config = documented({"actions": [{"create": {"alias": "prod", "collection": "docs"}}]})
    actions: list[AliasAction] = Field(min_length=1, description="All are applied, or none.")


class Point(BaseModel):
    """One point of a write: an id and exactly one of `text`, `vector`, `vector_b64` and `code_b64`."""

    model_config = ConfigDict(extra="forbid") | documented(EXAMPLE_POINT, exactly_one=_SOURCES)
    id: str = Field(max_length=256, min_length=1, examples=["a"])
    text: str | None = Field(None, examples=["parse a date from a string"])
    vector: list[float] | None = Field(None, description="The embedding.")
    vector_b64: str | None = Field(None, description="The embedding as base64 of little-endian float32.")
    code_b64: str | None = Field(None, description="The code as base64.")
    metadata: dict[str, Any] | None = Field(None, examples=[{"lang": "en", "year": 2024}])


class WritePoints(Body):
    model_config = documented({"points": [EXAMPLE_POINT]})
    points: Annotated[list[Any], WithJsonSchema({"type": "array", "items": {"$ref": "#/components/schemas/Point"}})] = (
        Field(
            description="Each is checked by itself: good ones are applied, bad ones are named in `items`.",
        )
    )


class GetPoints(Body):
    model_config = documented({"ids": ["a", "b"], "with_metadata": ["lang"]})
    ids: Ids
    with_metadata: WithMetadata = True
    with_code: bool = False


class DeletePoints(Body):
    """Exactly one of `ids` and `filter`."""

    model_config = documented({"filter": EXAMPLE_FILTER, "dry_run": True}, exactly_one=("ids", "filter"))
    ids: Ids | None = None
    filter: Filter | None = None
    dry_run: bool = Field(False, description="Only count what would be deleted.")


class Scroll(Body):
    model_config = documented({"filter": EXAMPLE_FILTER, "limit": 100})
    filter: Filter | None = None
    limit: int = Field(100, ge=1)
    cursor: str | None = Field(None, description="The `cursor` of the page before; the same filter must go with it.")
    with_metadata: WithMetadata = True


class Count(Body):
    model_config = documented({"filter": EXAMPLE_FILTER})
    filter: Filter | None = None


class SetMetadata(Body):
    """Exactly one of `ids` and `filter`."""

    model_config = documented({"ids": ["a"], "set": {"lang": "de", "year": None}}, exactly_one=("ids", "filter"))
    ids: Ids | None = None
    filter: Filter | None = None
    set: dict[str, Any] = Field(
        description="Fields to set; null removes a field; the others stay.", examples=[{"lang": "en"}]
    )


class Search(Body):
    """Exactly one of `text`, `vector`, `vector_b64`, `code_b64` and `id`."""

    model_config = documented(EXAMPLE_SEARCH, exactly_one=(*_SOURCES, "id"))
    text: str | None = Field(None, examples=["how do I parse a date"])
    vector: list[float] | None = Field(None, description="The embedding of the query.")
    vector_b64: str | None = Field(None, description="The same as base64 of little-endian float32: ten times cheaper.")
    code_b64: str | None = Field(None, description="A code as base64.")
    id: str | None = Field(None, description="More like this point.")
    limit: int = Field(10, ge=1, description="How many hits.")
    offset: int = Field(0, ge=0, description="How many hits to skip.")
    scorer: Scorer | None = Field(None, description="adc for text and vectors, sdc for codes and ids, unless given.")
    filter: Filter | None = None
    score_threshold: FiniteFloat | None = Field(None, description="Only hits of at least this score.")
    with_metadata: WithMetadata = True
    with_code: bool = False
    cursor: str | None = Field(None, description="The `cursor` of the answer before.")
    version: str | None = Field(None, description="Code version of the query; the active one unless given.")
    group_by: str | None = Field(None, description="At most `group_size` hits for each value of this field.")
    group_size: int = Field(1, ge=1)
    explain: bool = Field(False, description="Add times per stage, shards and distances.")


class SearchBatch(Body):
    model_config = documented({"searches": [EXAMPLE_SEARCH, {"id": "a", "limit": 3}]})
    searches: list[Search] = Field(min_length=1)


class Embeddings(Body):
    model_config = documented({"input": ["how do I parse a date"], "model": "minilm@1", "kind": "query"})
    input: str | list[str] = Field(examples=["parse a date from a string"])
    model: str | None = Field(None, description="Bundle id.", examples=["minilm@1"])
    encoding_format: EncodingFormat = Field(
        EncodingFormat.FLOAT,
        description="float: numbers; base64: little-endian float32; binary, ubinary: eight signs a byte, as int8 or "
        "uint8; code: base64 of the stored code and its gain.",
    )
    kind: TextKind = Field(TextKind.PASSAGE, description="Queries and passages may have prefixes of their own.")
    dimensions: int | None = Field(None, ge=1, description="Accepted when it is what the model gives.")
