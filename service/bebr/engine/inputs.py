"""Texts, vectors, codes and keys as they come from outside: the checks that several use cases share."""

import base64
import binascii

import numpy as np
from numpy.typing import NDArray

from bebr.core.codes import GAIN_SIZE_BYTES, CodeSpec, check_padding, cosine_gains, join_records, unpack_levels
from bebr.encoding.embedding.vectors import base64_bytes, check_embeddings, unit_of
from bebr.errors import BebrError, DimensionMismatch, InvalidCode, InvalidOption, InvalidText, InvalidVector

MAX_IDEMPOTENCY_KEY_CHARS = 256
CODES_ONLY = (
    "this collection was created with 'code', so it takes codes only ('code_b64'); to write vectors, create one with "
    "'fit': {'bytes', 'dims'}, or with a 'bundle' that has a binarizer"
)
NO_TEXT = (
    "this collection has no embedding model, so it takes no text; to write texts, create one with a 'bundle' that has "
    "one, such as `bebr models pull` makes"
)


def check_idempotency_key(key: str | None) -> None:
    """Raises InvalidOption for one that is empty or too long."""
    if key is not None and not 1 <= len(key) <= MAX_IDEMPOTENCY_KEY_CHARS:
        raise InvalidOption(
            f"an idempotency key has 1 to {MAX_IDEMPOTENCY_KEY_CHARS} characters, got {len(key)}", key="idempotency-key"
        )


def check_text(value: object, takes_text: bool, max_chars: int, key: str = "text") -> str:
    """Return the text of the field `key`.

    Raises InvalidText, or InvalidOption where there is no embedding model.
    """
    if not takes_text:
        raise InvalidOption(NO_TEXT, key="text")
    if not isinstance(value, str) or not value.strip():
        raise InvalidText(f"'{key}' must be a string that is not empty", key=key)
    if len(value) > max_chars:
        raise InvalidText(f"'{key}' may have {max_chars} characters, got {len(value)}", key=key)
    if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
        raise InvalidText(f"'{key}' holds half a surrogate pair, which is not valid Unicode", key=key)
    return value


def check_vector(vector: NDArray[np.float32], dims: int | None) -> NDArray[np.float32]:
    """vector (dims,) float32 -> (1, dims) of unit length. Raises DimensionMismatch, InvalidVector."""
    expected = vector_dims(dims)
    if len(vector) != expected:
        raise DimensionMismatch(
            f"the vector must have {expected} numbers, got {len(vector)}",
            key="vector",
            expected=expected,
            got=len(vector),
        )
    if vector.dtype == np.float32 and (unit := unit_of(vector)) is not None:
        return unit
    try:
        return check_embeddings(vector[None], expected)
    except InvalidVector as error:
        raise InvalidVector(error.detail.removeprefix("row 0: "), key="vector") from error


def vector_dims(dims: int | None) -> int:
    if dims is None:
        raise InvalidOption(CODES_ONLY, key="vector")
    return dims


def read_vector(values: object) -> NDArray[np.float32]:
    """A list of numbers -> (dims,) float32. Raises InvalidVector."""
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        raise InvalidVector("'vector' must be an array of numbers", key="vector")
    try:
        with np.errstate(over="ignore"):
            return np.array(values, np.float32)
    except OverflowError as error:
        raise InvalidVector(f"'vector' holds a number that float32 cannot: {error}", key="vector") from error


def read_vector_b64(text: object) -> NDArray[np.float32]:
    """Base64 of little-endian float32 -> (dims,) float32. Raises InvalidVector."""
    data = read_base64(text, "vector_b64", InvalidVector)
    if not data or len(data) % 4:
        raise InvalidVector(
            f"'vector_b64' must hold little-endian float32 values, got {len(data)} bytes", key="vector_b64"
        )
    return np.frombuffer(data, "<f4")


def plain_vector(text: str) -> NDArray[np.float32] | None:
    """The same; None: something is odd about it."""
    data = base64_bytes(text)
    return np.frombuffer(data, "<f4") if data and not len(data) % 4 else None


def read_base64(text: object, key: str, error_class: type[BebrError]) -> bytes:
    """Strict base64 -> bytes."""
    if not isinstance(text, str):
        raise error_class(f"'{key}' must be a base64 string, got {type(text).__name__}", key=key)
    if (found := base64_bytes(text)) is not None:
        return found
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise error_class(f"'{key}' is not valid base64: {error}", key=key) from error


def read_code(data: bytes, spec: CodeSpec, steps: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Packed levels, with or without the gain, or a whole record -> record (record_size_bytes,) uint8.

    Raises InvalidCode, DimensionMismatch. Without a gain, 1 / |value| is taken: sdc is then the cosine of codes.
    Without a rescore code, one of zeros is: its gain is 0, so it adds nothing to the score of the scan code.
    """
    if len(data) not in (spec.code_size_bytes, spec.scan_record_size_bytes, spec.record_size_bytes):
        whole = f", or {spec.record_size_bytes} with its rescore code" if spec.rescore else ""
        raise DimensionMismatch(
            f"a code of '{spec}' has {spec.code_size_bytes} bytes, or {spec.scan_record_size_bytes} with its float16 "
            f"gain{whole}, got {len(data)}",
            key="code_b64",
            expected=spec.code_size_bytes,
            got=len(data),
        )
    codes = np.frombuffer(data[: spec.code_size_bytes], np.uint8)[None]
    _check_padding(codes, spec)
    if len(data) > spec.code_size_bytes:
        gain = _read_gain(data[: spec.scan_record_size_bytes])
        if gain[0] == 0:
            raise InvalidCode("the gain of a code must be a positive number, got 0.0", key="code_b64")
    else:
        gain = cosine_gains(unpack_levels(codes, spec), spec, steps)
    record: NDArray[np.uint8] = join_records(codes, gain, _read_rescore(data, spec))[0]
    return record


def _read_rescore(data: bytes, spec: CodeSpec) -> NDArray[np.uint8]:
    """(1, rescore_size_bytes) uint8."""
    if spec.rescore is None or len(data) < spec.record_size_bytes:
        return np.zeros((1, spec.rescore_size_bytes), np.uint8)
    record = np.frombuffer(data[spec.scan_record_size_bytes :], np.uint8)[None]
    _check_padding(record[:, : spec.rescore.code_size_bytes], spec.rescore)
    _read_gain(data)
    return record


def _check_padding(codes: NDArray[np.uint8], spec: CodeSpec) -> None:
    if not check_padding(codes, spec)[0]:
        raise InvalidCode(f"the padding bits of a code of '{spec}' must be zero", key="code_b64")


def _read_gain(record: bytes) -> NDArray[np.float16]:
    """The gain that a record ends with (1,) float16."""
    gain = np.frombuffer(record[-GAIN_SIZE_BYTES:], "<f2")
    if not (np.isfinite(gain[0]) and gain[0] >= 0):
        raise InvalidCode(f"the gain of a code must be a positive number, got {gain[0]}", key="code_b64")
    return gain
