"""How large one answer may be. What would exceed it is refused, or ends its page, before it is built."""

from collections.abc import Sequence

from bebr.errors import AnswerTooLarge

HIT_BYTES = 96
"""What a hit or a point takes beside its metadata and code."""
PAGE_IDS = 256
"""Points that are fetched before their size is looked at."""
INLINE_BYTES = 256 * 1024
"""Larger answers are written in a thread."""


def size_of(metadata: str | None, code: bytes | None) -> int:
    """Bytes of one point or hit in an answer, about."""
    size = HIT_BYTES
    if metadata is not None:
        size += len(metadata) if metadata.isascii() else len(metadata.encode("utf-8", "surrogatepass"))
    return size if code is None else size + len(code) * 4 // 3


def size_of_all(metadata: Sequence[str | None]) -> int:
    """The same of many points or hits without codes, together."""
    texts = [text for text in metadata if text is not None]
    if all(map(str.isascii, texts)):
        return HIT_BYTES * len(metadata) + sum(map(len, texts))
    return sum([size_of(text, None) for text in metadata])


class AnswerSize:
    """Counts what goes into one answer."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.size_bytes = 0

    def fits(self, size_bytes: int) -> bool:
        """Count it if there is room for it."""
        if self.size_bytes + size_bytes > self.max_bytes:
            return False
        self.size_bytes += size_bytes
        return True

    def add(self, size_bytes: int) -> None:
        """Count it. Raises AnswerTooLarge."""
        if not self.fits(size_bytes):
            raise too_large(self.max_bytes)


def too_large(max_bytes: int) -> AnswerTooLarge:
    return AnswerTooLarge(
        f"the answer would have over {max_bytes} bytes; ask for fewer at a time, or name the metadata fields to return "
        "in 'with_metadata'",
        max_answer_bytes=max_bytes,
    )
