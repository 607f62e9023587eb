"""Every error that bebr raises on purpose, and nothing else.

    BebrError
    ├── InvalidRequest            the request can never succeed as it is
    │   ├── DimensionMismatch     a vector or code of the wrong length
    │   ├── InvalidVector         NaN, infinity, all zeros, or invalid base64
    │   ├── InvalidCode           a code that no encoder could have made
    │   ├── InvalidSpec           a CodeSpec such as "48x4+128x2" that does not parse
    │   ├── InvalidId             empty, too long or not a string
    │   ├── InvalidText           empty or too long
    │   ├── InvalidMetadata       not an object, or a filterable field of the wrong type
    │   ├── InvalidFilter         a filter that does not parse or does not fit the fields
    │   ├── DuplicateId           an id repeated in one batch
    │   ├── InvalidOption         an option that is unknown, out of range or does not apply
    │   ├── InvalidEmbeddings     embeddings that no binarizer can be fitted to
    │   ├── InvalidCheckpoint     a model folder that cannot be imported
    │   ├── Malformed             a body that does not parse
    │   ├── AnswerTooLarge        an answer over the limit
    │   ├── PayloadTooLarge       a body over the limit, or a batch over that of one commit
    │   ├── Unauthorized          no key, or a wrong one
    │   ├── Forbidden             a key without permission
    │   └── WrongEventLoop        an AsyncClient in another event loop than before
    ├── NotFound                  BundleNotFound, CollectionNotFound, PointNotFound, JobNotFound, VersionNotFound
    ├── Conflict                  AlreadyExists, Incompatible, IdempotencyConflict, StaleDocument
    ├── Unavailable               try again later
    │   ├── Overloaded            the work could not begin in time
    │   ├── DeadlineExceeded      the time that the caller allowed is over
    │   ├── Abandoned             the caller has left
    │   ├── StoreUnavailable      the metadata store does not answer
    │   ├── NotReady              starting or stopping
    │   ├── NotPrimary            this process only follows another one
    │   ├── PrimaryUnavailable    the one process that does it is being replaced
    │   ├── LeafUnavailable       a leaf cannot answer this now; another one is asked
    │   ├── ShardUnavailable      no leaf that lives has the shard
    │   └── InsufficientStorage   disk or memory is low
    └── Damaged                   DamagedBundle, DamagedCollection, DamagedPoint, DamagedSegment, DamagedStore

Nothing here knows HTTP: `bebr.server.problems` has the one table of statuses.
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
    """The request can never succeed as it is."""


class DimensionMismatch(InvalidRequest):
    """A vector or code does not have the length that its collection or bundle needs."""


class InvalidVector(InvalidRequest):
    """A vector contains NaN or infinity, is all zeros, or is not valid base64."""


class InvalidCode(InvalidRequest):
    """No encoder of this CodeSpec could have made the code."""


class InvalidSpec(InvalidRequest):
    """The CodeSpec does not parse."""


class InvalidId(InvalidRequest):
    """The point id is empty, too long or not a string."""


class InvalidText(InvalidRequest):
    """The text is empty or over the limit."""


class InvalidMetadata(InvalidRequest):
    """The metadata is not an object, or a filterable field has the wrong type."""


class InvalidFilter(InvalidRequest):
    """The filter does not parse, or does not fit the filterable fields."""


class DuplicateId(InvalidRequest):
    """The id is repeated in one batch."""


class InvalidOption(InvalidRequest):
    """An option is unknown, out of range, or does not apply here."""


class InvalidEmbeddings(InvalidRequest):
    """No binarizer can be fitted to these embeddings."""


class InvalidCheckpoint(InvalidRequest):
    """The model folder is incomplete, damaged, or of a kind that cannot be imported."""


class Malformed(InvalidRequest):
    """The body does not parse."""


class PayloadTooLarge(InvalidRequest):
    """The body is over the limit, or the batch is too large for one commit."""


class AnswerTooLarge(InvalidRequest):
    """The answer would be over the limit."""


class Unauthorized(InvalidRequest):
    """The API key is missing or unknown."""


class Forbidden(InvalidRequest):
    """The API key does not permit this, for example a read-only key for a write."""


class WrongEventLoop(InvalidRequest, RuntimeError):
    """An AsyncClient is used in another event loop than before; its connections belong to that one."""


class NotFound(BebrError):
    """What the request names does not exist."""


class BundleNotFound(NotFound):
    """There is no bundle with this id."""


class CollectionNotFound(NotFound):
    """There is no collection or alias with this name."""


class PointNotFound(NotFound):
    """There is no point with this id."""


class JobNotFound(NotFound):
    """There is no job with this id."""


class VersionNotFound(NotFound):
    """The collection has no code version with this id, or it is retired."""


class Conflict(BebrError):
    """The request does not fit the current state."""


class AlreadyExists(Conflict):
    """The name or id is already in use."""


class Incompatible(Conflict):
    """Codes, bundles or versions cannot be compared with each other."""


class IdempotencyConflict(Conflict):
    """The idempotency key was used with another body."""


class StaleDocument(Conflict):
    """What was to be changed is another than it was when it was read: another process has changed it."""


class Unavailable(BebrError):
    """Try again later."""


class Overloaded(Unavailable):
    """More work waits than can be done in time, or a queue is full. Nothing was done."""


class DeadlineExceeded(Unavailable):
    """The time that the caller allowed is over. Nothing was done."""


class Abandoned(Unavailable):
    """The caller left before its answer was ready, so its work was dropped. Nothing was done."""


class StoreUnavailable(Unavailable):
    """The metadata store does not answer."""


class NotReady(Unavailable):
    """The service is starting or stopping."""


class NotPrimary(Unavailable):
    """The process follows another one, which writes. Nothing was done."""


class PrimaryUnavailable(Unavailable):
    """Only the primary of several worker processes does this, and it is being replaced."""


class LeafUnavailable(Unavailable):
    """A leaf is gone, or cannot answer this now; whoever asked it asks another one. Nothing was done."""


class ShardUnavailable(Unavailable):
    """No leaf that lives has these shards of the collection."""


class InsufficientStorage(Unavailable):
    """Disk or memory is low."""


class Damaged(BebrError):
    """Stored data is not what was written."""


class DamagedBundle(Damaged):
    """Files of the bundle do not match its manifest."""


class DamagedCollection(Damaged):
    """The collection cannot be opened. The others serve."""


class DamagedSegment(Damaged):
    """A segment file is truncated or altered. It is rebuilt from the store."""


class DamagedStore(Damaged):
    """The store contains something that bebr did not write."""


class DamagedPoint(DamagedStore):
    """The store holds another id, code or metadata for the point than was written."""
