"""Every error that bebr raises on purpose, and nothing else.

    BebrError
    ├── InvalidRequest (400)      the caller sent something that can never work
    │   ├── DimensionMismatch     a vector or code of the wrong length
    │   ├── InvalidVector         NaN, infinite or zero vectors, wrong base64
    │   ├── InvalidCode           a code that no encoder could have made
    │   ├── InvalidSpec           a CodeSpec such as "48x4+128x2" that does not parse
    │   ├── InvalidId             empty, too long or not a string
    │   ├── InvalidText           empty text
    │   ├── InvalidMetadata       not an object, or a filterable field of the wrong type
    │   ├── InvalidFilter         a filter that does not parse or does not fit the fields
    │   ├── DuplicateId           one id twice in one batch
    │   ├── InvalidOption         an option that is unknown, out of range or does not apply
    │   ├── InvalidEmbeddings     arrays of embeddings that no binarizer can be fitted on
    │   ├── InvalidCheckpoint     a model folder that cannot be imported
    │   ├── Malformed (422)       a body that does not parse
    │   ├── PayloadTooLarge (413) a body over the limit
    │   ├── Unauthorized (401)    no key, or a wrong one
    │   └── Forbidden (403)       a read-only key for something that writes
    ├── NotFound (404)            BundleNotFound, CollectionNotFound, PointNotFound, JobNotFound, VersionNotFound
    ├── Conflict (409)            AlreadyExists, Incompatible, IdempotencyConflict
    ├── Unavailable (503)         try again later
    │   ├── Overloaded (429)      a queue is full
    │   ├── StoreUnavailable      the metadata store does not answer
    │   ├── NotReady              still starting
    │   └── InsufficientStorage (507)  disk or memory is low
    └── Damaged (500)             DamagedBundle, DamagedSegment, DamagedStore

The HTTP status of each stands in one table in `bebr.server.problems`; nothing here knows HTTP.
"""

from typing import Any


class BebrError(Exception):
    """Base of all errors: a sentence for people and fields for programs.

    `detail` says what was expected, what came and what to do next; `fields` names the culprit.
    """

    def __init__(self, detail: str, **fields: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.fields = fields


class InvalidRequest(BebrError):
    """The caller sent something that can never work."""


class DimensionMismatch(InvalidRequest):
    """A vector or code has another length than its collection or bundle."""


class InvalidVector(InvalidRequest):
    """A vector holds NaN or infinity, is all zeros, or is not valid base64."""


class InvalidCode(InvalidRequest):
    """A code that no encoder of this CodeSpec could have made."""


class InvalidSpec(InvalidRequest):
    """A CodeSpec that does not parse."""


class InvalidId(InvalidRequest):
    """A point id that is empty, too long or not a string."""


class InvalidText(InvalidRequest):
    """An empty text, or one over the limit."""


class InvalidMetadata(InvalidRequest):
    """Metadata that is not an object, or whose filterable field has the wrong type."""


class InvalidFilter(InvalidRequest):
    """A filter that does not parse, or does not fit the filterable fields."""


class DuplicateId(InvalidRequest):
    """One id stands twice in one batch."""


class InvalidOption(InvalidRequest):
    """An option that is unknown, out of range or does not apply here."""


class InvalidEmbeddings(InvalidRequest):
    """An array of embeddings that no binarizer can be fitted on."""


class InvalidCheckpoint(InvalidRequest):
    """A model folder that is incomplete, damaged or of a kind that cannot be imported."""


class Malformed(InvalidRequest):
    """A body that does not parse."""


class PayloadTooLarge(InvalidRequest):
    """A body over the limit."""


class Unauthorized(InvalidRequest):
    """No API key, or a wrong one."""


class Forbidden(InvalidRequest):
    """A key that may not do this, such as a read-only key that writes."""


class NotFound(BebrError):
    """The thing that was named does not exist."""


class BundleNotFound(NotFound):
    """No bundle of that id is on hand."""


class CollectionNotFound(NotFound):
    """No collection or alias of that name."""


class PointNotFound(NotFound):
    """No point of that id."""


class JobNotFound(NotFound):
    """No job of that id."""


class VersionNotFound(NotFound):
    """The collection has no code version of that id, or it is retired."""


class Conflict(BebrError):
    """The request does not fit the present state."""


class AlreadyExists(Conflict):
    """The name or id is taken."""


class Incompatible(Conflict):
    """Codes, bundles or versions that must not be compared."""


class IdempotencyConflict(Conflict):
    """An idempotency key that was used for another body."""


class Unavailable(BebrError):
    """Try again later."""


class Overloaded(Unavailable):
    """A queue is full; nothing was done."""


class StoreUnavailable(Unavailable):
    """The metadata store does not answer."""


class NotReady(Unavailable):
    """The service is still starting, or shutting down."""


class InsufficientStorage(Unavailable):
    """Disk or memory is low."""


class Damaged(BebrError):
    """Stored bytes are not what they should be."""


class DamagedBundle(Damaged):
    """A bundle whose files do not match its manifest."""


class DamagedSegment(Damaged):
    """A segment file that is truncated or altered; it is rebuilt from the store."""


class DamagedStore(Damaged):
    """The metadata store holds something that bebr did not write."""
