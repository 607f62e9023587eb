"""The body of a job on its way to disk: in pieces, within limits, durable before the caller gets an answer."""

import asyncio
import errno
import hashlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from bebr.config import Limits
from bebr.core.decoding import HEAD_BYTES, check_text, is_gzip
from bebr.disk import sync_folder
from bebr.errors import InsufficientStorage, Malformed, PayloadTooLarge

WRITE_BYTES = 1 << 20
CHECK_EVERY_BYTES = 16 << 20


async def recognized(body: AsyncIterator[bytes], zipped: bool) -> tuple[bool, AsyncIterator[bytes]]:
    """(whether the body is gzip, all of it). zipped: whether its sender says so.

    Raises Malformed for what is neither text nor gzip, or not what its sender says.
    """
    head = b""
    async for chunk in body:
        head += chunk
        if len(head) >= HEAD_BYTES:
            break
    if zipped and head and not is_gzip(head):
        raise Malformed("the body is declared as gzip and is not; send it without that, or compress it")
    if not is_gzip(head):
        check_text(head[:HEAD_BYTES])
    return zipped or is_gzip(head), _whole(head, body)


async def _whole(head: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield head
    async for chunk in rest:
        yield chunk


async def spool(
    body: AsyncIterator[bytes], path: Path, limits: Limits, expected_bytes: int | None = None
) -> tuple[int, str]:
    """Write `body` to `path` and sync it -> its size in bytes, and its SHA-256.

    expected_bytes: what the caller announced.

    Raises PayloadTooLarge beyond max_ingest_bytes; InsufficientStorage when less than min_free_disk_bytes would remain.
    """
    _check_size(expected_bytes or 0, limits)
    check_disk(path.parent, limits, expected_bytes or 0)
    size, checked, pending, digest = 0, 0, bytearray(), hashlib.sha256()
    try:
        with path.open("wb") as file:
            async for chunk in body:
                pending += chunk
                size += len(chunk)
                if len(pending) >= WRITE_BYTES:
                    _check_size(size, limits)
                    await asyncio.to_thread(_write, file, digest, bytes(pending))
                    pending.clear()
                if size - checked >= CHECK_EVERY_BYTES:
                    checked = size
                    check_disk(path.parent, limits)
            _check_size(size, limits)
            digest.update(pending)
            file.write(pending)
            file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())
        await asyncio.to_thread(sync_folder, path.parent)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InsufficientStorage(f"the disk is full: {error}", path=str(path.parent)) from error
        raise
    return size, digest.hexdigest()


def _write(file: BinaryIO, digest: "hashlib._Hash", data: bytes) -> None:
    digest.update(data)
    file.write(data)


def check_disk(folder: Path, limits: Limits, needed_bytes: int = 0) -> None:
    """Raise InsufficientStorage unless min_free_disk_bytes remain after `needed_bytes` are written."""
    free = shutil.disk_usage(folder).free
    if free - needed_bytes < limits.min_free_disk_bytes:
        raise InsufficientStorage(
            f"the disk has {free} bytes free; {needed_bytes} for this body and min_free_disk_bytes = "
            f"{limits.min_free_disk_bytes} must fit; free some space, or send less at a time",
            free_bytes=free,
            needed_bytes=needed_bytes,
        )


def _check_size(size: int, limits: Limits) -> None:
    if size > limits.max_ingest_bytes:
        raise PayloadTooLarge(
            f"one ingestion has at most {limits.max_ingest_bytes} bytes; split it into several",
            max_ingest_bytes=limits.max_ingest_bytes,
        )
