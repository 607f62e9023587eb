"""A code version of a collection, and how the store keeps one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebr.core.codes import CodeSpec
from bebr.encoding import Bundle
from bebr.encoding.quantization.int8 import Int8Binarizer
from bebr.encoding.quantization.training_free import TrainingFree, training_free

BUFFERED_ID = "buffered"
"""Id of a version in which embeddings wait for a fit. No bundle can have it, for their ids hold an @."""
ROTATED_ID = "rotated"
"""The same of a version with training-free codes."""
STORED_BUFFERED_ID = "staging"
"""What stored documents call it."""


class VersionKind(StrEnum):
    """What the codes of a version are."""

    RAW = "raw"
    """Codes that the user brings: there is no binarizer."""
    BUNDLE = "bundle"
    """Made by the binarizer of a bundle."""
    BUFFERED = "buffered"
    """Embeddings to 8 bits a dimension, kept until a binarizer is fitted to them, or for good."""
    ROTATED = "rotated"
    """Training-free codes: made by a random rotation."""
    FITTED = "fitted"
    """Made by a binarizer that was fitted to points of the collection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A code version of a collection: the space that codes live in."""

    number: int
    """Its place in `CollectionDocument.versions`."""
    id: str
    kind: VersionKind
    spec: CodeSpec
    steps: NDArray[np.float32]
    """(blocks,) float32."""
    bundle: str | None = None
    """Id of the bundle whose binarizer makes its codes; None for raw and buffered."""
    fingerprint: str | None = None
    """Fingerprint of that bundle."""
    model: str | None = None
    """Id of the bundle whose embedding model makes the embeddings; None where the user brings them."""
    model_fingerprint: str | None = None
    """Fingerprint of that bundle: it names the embedding model."""
    buffered_dims: int | None = None
    """Dimensions of the embeddings that a buffered version holds; None for all other kinds."""
    rotated_dims: int | None = None
    """Dimensions of the embeddings that training-free codes are made of; None for all other kinds."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """What was measured when a fitted binarizer was made; empty for all other kinds."""
    retired: bool = False
    """It holds no points and never will again."""

    @classmethod
    def raw(cls, number: int, spec: CodeSpec) -> "Version":
        """Codes that the user brings."""
        return cls(
            number=number,
            id=str(spec),
            kind=VersionKind.RAW,
            spec=spec,
            steps=np.ones(len(spec.blocks), np.float32),
        )

    @classmethod
    def of_bundle(cls, number: int, bundle: Bundle) -> "Version":
        """Codes that a bundle makes, of embeddings by the model of the same bundle."""
        return cls(
            number=number,
            id=bundle.id,
            kind=VersionKind.BUNDLE,
            spec=bundle.spec,
            steps=bundle.steps,
            bundle=bundle.id,
            fingerprint=bundle.fingerprint,
            model=bundle.id,
            model_fingerprint=bundle.fingerprint,
        )

    @classmethod
    def buffered(
        cls, number: int, dims: int, model: str | None, model_fingerprint: str | None, spec: CodeSpec | None = None
    ) -> "Version":
        """Embeddings of a model that wait for a fit. spec: of training-free codes with 8 bits a dim to rescore by;
        None: all 8 bits are scanned. Raises InvalidOption for too many dimensions."""
        codec = Int8Binarizer(dims) if spec is None else training_free(dims, spec)
        return cls(
            number=number,
            id=BUFFERED_ID,
            kind=VersionKind.BUFFERED,
            spec=codec.spec,
            steps=codec.steps,
            model=model,
            model_fingerprint=model_fingerprint,
            buffered_dims=dims,
        )

    @classmethod
    def rotated(cls, number: int, dims: int, spec: CodeSpec) -> "Version":
        """Training-free codes of embeddings that the user brings."""
        return cls(
            number=number,
            id=ROTATED_ID,
            kind=VersionKind.ROTATED,
            spec=spec,
            steps=training_free(dims, spec).steps,
            rotated_dims=dims,
        )

    @property
    def own_codec(self) -> Int8Binarizer | TrainingFree | None:
        """What makes its codes, where no bundle does; None also for codes that the user brings."""
        if self.rotated_dims is not None:
            return training_free(self.rotated_dims, self.spec)
        if self.buffered_dims is None:
            return None
        is_int8 = self.spec.rescore is None
        return Int8Binarizer(self.buffered_dims) if is_int8 else training_free(self.buffered_dims, self.spec)

    @classmethod
    def fitted(cls, number: int, bundle: Bundle, fitted_to: "Version", metrics: Mapping[str, Any]) -> "Version":
        """Codes of a binarizer that was fitted to the embeddings of a buffered version."""
        return cls(
            number=number,
            id=bundle.id,
            kind=VersionKind.FITTED,
            spec=bundle.spec,
            steps=bundle.steps,
            bundle=bundle.id,
            fingerprint=bundle.fingerprint,
            model=fitted_to.model,
            model_fingerprint=fitted_to.model_fingerprint,
            metrics=metrics,
        )

    def to_document(self) -> dict[str, Any]:
        """As the store keeps it. The kind is not written: it follows from what else is there."""
        document: dict[str, Any] = {
            "id": STORED_BUFFERED_ID if self.kind is VersionKind.BUFFERED else self.id,
            "code": str(self.spec),
            "steps": [float(step) for step in self.steps],
            "bundle": self.bundle,
            "fingerprint": self.fingerprint,
        }
        if (self.model, self.model_fingerprint) != (self.bundle, self.fingerprint):
            document |= {"model": self.model, "model_fingerprint": self.model_fingerprint}
        if self.kind is VersionKind.BUFFERED:
            document["staged_dims"] = self.buffered_dims
        if self.kind is VersionKind.ROTATED:
            document["rotated_dims"] = self.rotated_dims
        if self.kind is VersionKind.FITTED:
            document["figures"] = dict(self.metrics)
        if self.retired:
            document["retired"] = True
        return document

    @classmethod
    def from_document(cls, number: int, document: Mapping[str, Any]) -> "Version":
        """Inverse of `to_document`. Documents without `model` are from before it could differ from the bundle."""
        bundle, fingerprint = document["bundle"], document["fingerprint"]
        kind = _kind_of(document)
        return cls(
            number=number,
            id=BUFFERED_ID if kind is VersionKind.BUFFERED else document["id"],
            kind=kind,
            spec=CodeSpec.parse(document["code"]),
            steps=np.array(document["steps"], np.float32),
            bundle=bundle,
            fingerprint=fingerprint,
            model=document.get("model", bundle),
            model_fingerprint=document.get("model_fingerprint", fingerprint),
            buffered_dims=document.get("staged_dims"),
            rotated_dims=document.get("rotated_dims"),
            metrics=document.get("figures", {}),
            retired=document.get("retired", False),
        )


def _kind_of(document: Mapping[str, Any]) -> VersionKind:
    """The kind of a stored version."""
    if document.get("staged_dims") is not None:
        return VersionKind.BUFFERED
    if document.get("rotated_dims") is not None:
        return VersionKind.ROTATED
    if document.get("figures") is not None:
        return VersionKind.FITTED
    return VersionKind.RAW if document["bundle"] is None else VersionKind.BUNDLE
