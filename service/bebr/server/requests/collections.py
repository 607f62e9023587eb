"""Requests about collections and aliases."""

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat

from bebr.core.lists import DEFAULT_RECALL
from bebr.core.types import FIELD_TYPES, FieldType
from bebr.encoding.quantization.int8 import MAX_INT8_DIMS
from bebr.engine.collections.schema import FitSource
from bebr.engine.versions.fit_plan import DEFAULT_SAMPLE
from bebr.server.requests.base import Body, Name, Natural, Positive, Recall, documented

RESCORE_BYTES = (
    "Bytes per rescore code: a finer code of each point that lies on disk and is read for the best candidates of a "
    "search only. At most one byte per dimension of the embeddings; twice `bytes` is a good size."
)

CPU_SECONDS = (
    "CPU seconds that the fit may take, about; with few, fewer layouts, rounds and embeddings are tried. "
    "Default 60, or 120 for 1,536 dims, or 240 for 3,072."
)
CpuSeconds = Annotated[FiniteFloat, Field(gt=0, le=1_000_000)]

RECALL = (
    "Share of the hits of an exact search that searches of a large collection find, on average, by reading only the "
    "lists of codes that may have them; null: all searches are exact."
)


TYPES = "; ".join(f"`{kind}`: {meaning}" for kind, meaning in FIELD_TYPES.items())
AUTO = "new keys of metadata become filterable by themselves, with the type of what comes first."


class OwnFit(Body):
    """A binarizer of the collection's own, fitted to its first embeddings."""

    model_config = documented({"bytes": 64, "rescore_bytes": 128, "sample": 20_000})
    bytes: Positive | None = Field(
        None,
        description="Bytes per code; its layout is chosen automatically. Default: as many as the bundle's codes have, "
        "or a bit for each of your own `dims`, but at least 64 bytes.",
    )
    sample: Positive | None = Field(
        None, description=f"Number of embeddings to fit to, drawn at random from more. Default {DEFAULT_SAMPLE:,}."
    )
    dims: Positive | None = Field(None, description="Dimensions of your own embeddings, if there is no bundle.")
    rescore_bytes: Natural | None = Field(
        None,
        description=f"{RESCORE_BYTES} That is the default where the collection has `dims`; else none.",
        examples=[128],
    )
    cpu_seconds: CpuSeconds | None = Field(None, description=CPU_SECONDS)


class CreateCollection(Body):
    """A `bundle`; or the `dims` of your own vectors; or a `code`, for codes of your own."""

    model_config = documented({"bundle": "minilm@2", "filterable": {"lang": "keyword", "year": "integer"}})
    bundle: str | None = Field(
        None, description="Id of the bundle that encodes texts and vectors.", examples=["minilm@2"]
    )
    code: str | None = Field(
        None,
        description="CodeSpec, if you bring your own codes instead of a bundle. With `dims`, `int8` keeps 8 bits of "
        "each number of your vectors for good.",
        examples=["256x2"],
    )
    dims: Positive | None = Field(
        None,
        json_schema_extra={"maximum": MAX_INT8_DIMS},
        description="Dimensions of your own vectors, if there is no bundle. They get training-free codes at once, and "
        "those of a binarizer of the collection's own once it is fitted to the first of them.",
        examples=[1536],
    )
    fit: OwnFit | bool | None = Field(
        None,
        description="Fit a binarizer to the collection's own embeddings: of the bundle's model, or your own with "
        "`dims`. Default true with `dims`, false with a bundle; false keeps the codes that need no fit.",
    )
    shards: Positive = Field(
        2, description="Number of slices that are scanned in parallel.", json_schema_extra={"maximum": "max_shards"}
    )
    filterable: dict[str, FieldType] | Literal["auto"] = Field(
        {},
        description=f"Metadata fields that filters may use, with their types: {TYPES}. `auto`: {AUTO}",
        examples=[{"lang": "keyword", "year": "integer"}],
    )
    text_field: str | None = Field(
        None,
        min_length=1,
        max_length=256,
        description="Metadata field that keeps the `text` of each point, so that another model can encode it later. "
        "If a point's metadata has the field already, that value stays.",
        examples=["text"],
    )
    recall: Recall | None = Field(DEFAULT_RECALL, description=RECALL)


class UpdateCollection(Body):
    """What is left out stays as it is."""

    model_config = documented({"recall": 0.95})
    recall: Recall | None = Field(None, description=RECALL)
    filterable: dict[str, FieldType | None] | Literal["auto", "declared"] = Field(
        {},
        description="Fields that filters may use from now on, or that get another type; null drops a field. Where "
        f"points have to be read for them, the answer names a job. `auto`: {AUTO} `declared`: no more of them.",
        examples=[{"year": "integer", "old": None}],
    )


class FitCollection(Body):
    """A field left out keeps its value of the last fit. Before the first fit, `bytes` and `rescore_bytes` are the sizes
    of the present codes, and `sample` its default."""

    model_config = documented({"sample": 20_000})
    bytes: Positive | None = Field(None, description="Bytes per code.")
    rescore_bytes: Natural | None = Field(None, description=f"{RESCORE_BYTES} 0: none.")
    sample: Positive | None = Field(None, description="Number of embeddings to fit to.")
    cpu_seconds: CpuSeconds | None = Field(None, description=CPU_SECONDS)
    now: bool = Field(False, description="Fit to the embeddings that are buffered already.")
    source: FitSource = Field(
        FitSource.WRITES,
        alias="from",
        description="What to fit to. writes: points that are written from now on. sample: the embeddings of some "
        "points that are kept since the last fit. codes: what the rescore codes of all points stand for; all get new "
        "codes.",
    )


class CreateAlias(Body):
    alias: Name = Field(examples=["prod"])
    collection: Name = Field(examples=["docs"])


class DeleteAlias(Body):
    alias: Name = Field(examples=["prod"])


class AliasAction(Body):
    """Exactly one of `create` and `delete`."""

    model_config = documented({"delete": {"alias": "prod"}}, exactly_one=("create", "delete"))
    create: CreateAlias | None = None
    delete: DeleteAlias | None = None


class UpdateAliases(Body):
    model_config = documented({"actions": [{"create": {"alias": "prod", "collection": "docs"}}]})
    actions: list[AliasAction] = Field(
        min_length=1, max_length=1_000, fail_fast=True, description="All are applied, or none."
    )
