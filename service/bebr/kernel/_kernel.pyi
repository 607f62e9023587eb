from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

class Layout:
    def __init__(self, blocks: Sequence[tuple[int, int]]) -> None: ...
    @property
    def dims(self) -> int: ...
    @property
    def code_size_bytes(self) -> int: ...
    def blocked_size_bytes(self, rows: int) -> int: ...

def supported_isas() -> list[str]: ...
def use_isa(name: str) -> bool: ...
def isa() -> str: ...
def normalize(vector: NDArray[np.float32], lowest: float, highest: float, unit: NDArray[np.float32]) -> bool: ...
def decode_base64(text: str) -> bytes | None: ...
def allocate(size: int) -> NDArray[np.uint8]: ...
def pack(layout: Layout, codes: NDArray[np.uint8], blocked: NDArray[np.uint8], first_row: int) -> None: ...
def unpack(layout: Layout, blocked: NDArray[np.uint8], rows: NDArray[np.int64], codes: NDArray[np.uint8]) -> None: ...
def dot_top_k(
    layout: Layout,
    blocked: NDArray[np.uint8],
    gains: NDArray[np.uint16],
    rows: int,
    values: NDArray[np.int8],
    scales: NDArray[np.float32],
    masks: Sequence[NDArray[np.uint16]],
    mask_of_query: NDArray[np.int32] | None,
    floors: NDArray[np.float32] | None,
    found_scores: NDArray[np.float32],
    found_rows: NDArray[np.int64],
) -> None: ...
def hamming_top_k(
    layout: Layout,
    blocked: NDArray[np.uint8],
    rows: int,
    codes: NDArray[np.uint8],
    masks: Sequence[NDArray[np.uint16]],
    mask_of_query: NDArray[np.int32] | None,
    ceilings: NDArray[np.int32] | None,
    found_distances: NDArray[np.int32],
    found_rows: NDArray[np.int64],
) -> None: ...
def dot_top_labels(
    layout: Layout,
    blocked: NDArray[np.uint8],
    gains: NDArray[np.uint16],
    rows: int,
    values: NDArray[np.int8],
    scales: NDArray[np.float32],
    masks: Sequence[NDArray[np.uint16]],
    floor: float,
    codes: NDArray[np.int32],
    starts: NDArray[np.int64] | None,
    wanted: int,
    ranks: NDArray[np.uint32] | None,
    found_scores: NDArray[np.float32],
    found_items: NDArray[np.int64],
) -> None: ...
def hamming_top_labels(
    layout: Layout,
    blocked: NDArray[np.uint8],
    rows: int,
    query: NDArray[np.uint8],
    masks: Sequence[NDArray[np.uint16]],
    ceiling: int,
    codes: NDArray[np.int32],
    starts: NDArray[np.int64] | None,
    wanted: int,
    ranks: NDArray[np.uint32] | None,
    found_distances: NDArray[np.int32],
    found_items: NDArray[np.int64],
) -> None: ...
def map_file(path: str) -> NDArray[np.uint8]: ...
def read_ids(
    offsets: NDArray[np.uint64], blob: NDArray[np.uint8], lookup: NDArray[np.uint64], rows: Sequence[int]
) -> list[str]: ...
def read_checksum(bytes: NDArray[np.uint8]) -> int: ...
def write_records(
    layout: Layout,
    levels: NDArray[np.uint8],
    gains: NDArray[np.uint16],
    records: NDArray[np.uint8],
    first_byte: int,
) -> bool: ...
def represent(
    layout: Layout,
    levels: NDArray[np.uint8],
    gains: NDArray[np.float32],
    steps: NDArray[np.float32],
    values: NDArray[np.float32],
) -> None: ...

class RowFile:
    def __init__(self, path: str, prefix: bytes, first_byte: int, row_size: int) -> None: ...
    @property
    def row_size(self) -> int: ...
    def move_to(self, path: str) -> None: ...

def read_rows(
    files: Sequence[RowFile], file_of: NDArray[np.int32], rows: NDArray[np.int64], out: NDArray[np.uint8]
) -> tuple[int, int]: ...
def seal_rows(rows: NDArray[np.uint8]) -> None: ...
def count_sound_rows(rows: NDArray[np.uint8]) -> int: ...

class RescoreSources:
    def __init__(
        self,
        layout: Layout,
        row_size: int,
        files: list[RowFile],
        arrays: Sequence[NDArray[np.uint8]],
        source_at: Sequence[int],
    ) -> None: ...
    def add_scores(
        self,
        values: NDArray[np.int16],
        scales: NDArray[np.float32],
        places: NDArray[np.int32],
        rows: NDArray[np.int64],
        query_of: NDArray[np.int32] | None,
        waits: bool,
        scores: NDArray[np.float64],
        counts: NDArray[np.int64],
    ) -> tuple[int, int]: ...

class RescoreProjection:
    def __init__(
        self,
        columns: NDArray[np.int16],
        units: NDArray[np.float32],
        column_of: NDArray[np.int32],
        factors: NDArray[np.float32],
        peak: int,
    ) -> None: ...
    def project(self, rows: NDArray[np.float32], projected: NDArray[np.float32]) -> None: ...
    def queries(self, rows: NDArray[np.float32], values: NDArray[np.int16], scales: NDArray[np.float32]) -> None: ...

def quantize_rescore(
    projected: NDArray[np.float32], peak: int, values: NDArray[np.int16], scales: NDArray[np.float32]
) -> None: ...
def project(rows: NDArray[np.float32], matrix: NDArray[np.float32], projected: NDArray[np.float32]) -> None: ...
def quantize(
    layout: Layout,
    projected: NDArray[np.float32],
    steps: NDArray[np.float32],
    values: NDArray[np.int8],
    scales: NDArray[np.float32],
) -> None: ...

class CentroidTable: ...

def make_centroid_table(
    layout: Layout,
    values: NDArray[np.int8],
    scales: NDArray[np.float32],
    generation: int,
    cells: CentroidTable | None,
    begin: list[int],
) -> CentroidTable: ...
def centroid_scores(
    table: CentroidTable, values: NDArray[np.int8], scales: NDArray[np.float32], out: NDArray[np.float32]
) -> None: ...
def assign(
    layout: Layout,
    blocked: NDArray[np.uint8],
    rows: int,
    values: NDArray[np.int8],
    scales: NDArray[np.float32],
    numbers: NDArray[np.int32],
    scores: NDArray[np.float32],
) -> None: ...
def best_queries(
    layout: Layout,
    blocked: NDArray[np.uint8],
    rows: int,
    values: NDArray[np.int8],
    scales: NDArray[np.float32],
    numbers: NDArray[np.int32],
) -> None: ...
def accumulate(
    layout: Layout,
    blocked: NDArray[np.uint8],
    gains: NDArray[np.uint16],
    rows: int,
    numbers: NDArray[np.int32],
    sums: NDArray[np.float64],
    counts: NDArray[np.int64],
) -> None: ...

class DamagedRows(Exception): ...

class Pieces:
    def __init__(self, bytes: NDArray[np.uint8], piece_size: int, checksums: NDArray[np.uint32]) -> None: ...
    @property
    def size(self) -> int: ...
    @property
    def is_checked(self) -> bool: ...
    def check(self, begin: int, end: int) -> bool: ...
    def check_all(self) -> bool: ...
    def advise(self, begin: int, end: int) -> None: ...
    def forget(self) -> None: ...

def lost_pages() -> int: ...

class Projection:
    def __init__(
        self,
        layout: Layout,
        matrix: NDArray[np.float32],
        of: NDArray[np.int64] | None,
        factors: NDArray[np.float32] | None,
        steps: NDArray[np.float32],
    ) -> None: ...

class Parts:
    def __init__(self) -> None: ...
    def add_table(
        self,
        layout: Layout,
        blocked: NDArray[np.uint8],
        gains: NDArray[np.uint16],
        rows: int,
        live: NDArray[np.uint16] | None,
        offsets: NDArray[np.uint64],
        blob: NDArray[np.uint8],
        lookup: NDArray[np.uint64],
        by_id: bool,
        lists: CentroidTable | None,
        begin: NDArray[np.uint32] | None,
        pieces_of_codes: Pieces | None,
        pieces_of_gains: Pieces | None,
    ) -> None: ...
    def add_list(
        self,
        layout: Layout,
        blocked: NDArray[np.uint8],
        gains: NDArray[np.uint16],
        rows: int,
        live: NDArray[np.uint16] | None,
        ids: list[str],
    ) -> None: ...
    def ids(self, places: NDArray[np.int32], rows: NDArray[np.int64]) -> list[str | None]: ...
    def best(
        self, scores: NDArray[np.float64], places: NDArray[np.int32], rows: NDArray[np.int64], limit: int
    ) -> tuple[list[float], list[str], list[int], int]: ...

Found = tuple[NDArray[np.float64], NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]

def nearest(
    parts: Parts,
    places: Sequence[int],
    projection: Projection,
    embeddings: NDArray[np.float32],
    k: int,
    limit: int,
    added: NDArray[np.float64] | None,
    masks: Sequence[Sequence[NDArray[np.uint16]]],
    mask_of_query: NDArray[np.int32] | None,
    floors: NDArray[np.float32] | None,
    deltas: NDArray[np.float32] | None,
    stop_at: NDArray[np.int32] | None,
    flat_rows: NDArray[np.int64] | None,
    keeps: bool,
    measures: bool,
    sources: RescoreSources | None,
    finer_values: NDArray[np.int16] | None,
    finer_scales: NDArray[np.float32] | None,
    most: NDArray[np.int64] | None,
    waits: bool,
) -> tuple[
    list[tuple[list[float], list[str], list[int], int]],
    tuple[NDArray[np.int8], NDArray[np.float32]] | None,
    tuple[NDArray[np.int64], NDArray[np.int64]] | None,
    tuple[int, int],
    float,
]: ...
def dot_candidates(
    parts: Parts,
    places: Sequence[int],
    values: NDArray[np.int8],
    scales: NDArray[np.float32],
    k: int,
    masks: Sequence[Sequence[NDArray[np.uint16]]],
    mask_of_query: NDArray[np.int32] | None,
    floors: NDArray[np.float32] | None,
) -> Found: ...
def list_candidates(
    parts: Parts,
    places: Sequence[int],
    values: NDArray[np.int8],
    scales: NDArray[np.float32],
    k: int,
    masks: Sequence[Sequence[NDArray[np.uint16]]],
    mask_of_query: NDArray[np.int32] | None,
    floors: NDArray[np.float32] | None,
    deltas: NDArray[np.float32],
    stop_at: NDArray[np.int32],
    flat_rows: NDArray[np.int64],
) -> tuple[Found, NDArray[np.int64], NDArray[np.int64]]: ...
def hamming_candidates(
    parts: Parts,
    places: Sequence[int],
    codes: NDArray[np.uint8],
    k: int,
    masks: Sequence[Sequence[NDArray[np.uint16]]],
    mask_of_query: NDArray[np.int32] | None,
    ceilings: NDArray[np.int32] | None,
) -> Found: ...
