"""Indexes of others, as `bench.peers` compares them: each is built from embeddings of length one, kept in a file,
loaded and searched, one query after another on one thread.

Graphs have 16 links a point (32 on the lowest level) and are built with 128 candidates. Lists are 2,048, trained on
100,000 rows. Finer codes, by which faiss scores candidates again, are of a byte a dimension, in memory.
"""

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LINKS, BUILD_CANDIDATES = 16, 128
TRAIN_ROWS, ROWS_PER_LIST = 100_000, 200
WIDTHS = (10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384)
"""Candidates of a search of a graph."""
Rows = NDArray[np.float32]
Setting = tuple[float, ...]


class Peer(ABC):
    """One index of others."""

    package: str
    settings: Sequence[Setting]
    """Those that are tried."""
    setting_names: tuple[str, ...]
    """What each number of a setting is."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.index: Any = None

    @property
    def is_installed(self) -> bool:
        return importlib.util.find_spec(self.package) is not None

    @abstractmethod
    def build(self, rows: Rows, path: Path) -> None:
        """Write the index of these rows to a file."""

    @abstractmethod
    def load(self, path: Path) -> None: ...

    @abstractmethod
    def use(self, setting: Setting) -> None: ...

    @abstractmethod
    def search(self, query: Rows, k: int) -> NDArray[np.int64]:
        """query (1, dims) -> the rows of its k hits."""


class Hnswlib(Peer):
    package, settings, setting_names = "hnswlib", [(width,) for width in WIDTHS], ("ef",)

    def build(self, rows: Rows, path: Path) -> None:
        import hnswlib

        index = hnswlib.Index("ip", rows.shape[1])
        index.init_index(len(rows), BUILD_CANDIDATES, LINKS)
        index.add_items(rows, num_threads=1)
        index.save_index(str(path))

    def load(self, path: Path) -> None:
        import hnswlib

        self.index = hnswlib.Index("ip", int(path.with_suffix(".dims").read_text()))
        self.index.load_index(str(path))
        self.index.set_num_threads(1)

    def use(self, setting: Setting) -> None:
        self.index.set_ef(int(setting[0]))

    def search(self, query: Rows, k: int) -> NDArray[np.int64]:
        found: NDArray[np.int64] = self.index.knn_query(query, k)[0][0].astype(np.int64)
        return found


class Usearch(Peer):
    package, settings, setting_names = "usearch", [(width,) for width in WIDTHS], ("expansion",)

    def __init__(self, name: str, dtype: str) -> None:
        super().__init__(name)
        self.dtype = dtype

    def build(self, rows: Rows, path: Path) -> None:
        from usearch.index import Index

        index = Index(
            ndim=rows.shape[1], metric="ip", dtype=self.dtype, connectivity=LINKS, expansion_add=BUILD_CANDIDATES
        )
        index.add(np.arange(len(rows), dtype=np.uint64), rows, threads=1)
        index.save(str(path))

    def load(self, path: Path) -> None:
        from usearch.index import Index

        self.index = Index.restore(str(path))

    def use(self, setting: Setting) -> None:
        self.index.expansion_search = int(setting[0])

    def search(self, query: Rows, k: int) -> NDArray[np.int64]:
        found: NDArray[np.int64] = self.index.search(query[0], k, threads=1).keys.astype(np.int64)
        return found


class Faiss(Peer):
    """By the name of faiss's factory; `{lists}` in it stands for the number of lists."""

    package = "faiss"

    def __init__(self, name: str, factory: str) -> None:
        super().__init__(name)
        self.factory = factory
        self.parameters: Any = None
        probes = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128)
        if "HNSW" in factory:
            self.settings, self.setting_names = [(width,) for width in WIDTHS], ("efSearch",)
        elif "Refine" in factory:
            self.settings = [(probe, factor) for probe in probes for factor in (2, 4, 8, 16, 32)]
            self.setting_names = "nprobe", "k_factor"
        else:
            self.settings, self.setting_names = [(probe,) for probe in probes], ("nprobe",)

    def build(self, rows: Rows, path: Path) -> None:
        import faiss

        faiss.omp_set_num_threads(1)
        lists = 2 ** round(np.log2(max(1, len(rows) / ROWS_PER_LIST)))
        factory = self.factory.format(lists=lists)
        index = faiss.index_factory(rows.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
        if "HNSW" in factory:
            index.hnsw.efConstruction = BUILD_CANDIDATES
        index.train(rows[:TRAIN_ROWS])
        index.add(rows)
        faiss.write_index(index, str(path))

    def load(self, path: Path) -> None:
        import faiss

        faiss.omp_set_num_threads(1)
        self.index = faiss.read_index(str(path))

    def use(self, setting: Setting) -> None:
        import faiss

        if "HNSW" in self.factory:
            self.parameters = faiss.SearchParametersHNSW(efSearch=int(setting[0]))
            return
        self.parameters = faiss.SearchParametersIVF(nprobe=int(setting[0]))
        if "RaBitQ" in self.factory and "fs" not in self.factory:
            self.parameters = faiss.IVFRaBitQSearchParameters(nprobe=int(setting[0]), qb=8)
        if len(setting) > 1:
            self.parameters = faiss.IndexRefineSearchParameters(k_factor=setting[1], base_index_params=self.parameters)

    def search(self, query: Rows, k: int) -> NDArray[np.int64]:
        found: NDArray[np.int64] = self.index.search(query, k, params=self.parameters)[1][0]
        return found


PEERS: Sequence[Peer] = (
    Hnswlib("hnswlib"),
    Usearch("usearch f32", "f32"),
    Usearch("usearch i8", "i8"),
    Faiss("faiss HNSW", f"HNSW{LINKS}"),
    Faiss("faiss IVF-PQ FastScan + refine", "IVF{lists},PQ128x4fs,Refine(SQ8)"),
    Faiss("faiss RaBitQ FastScan + refine", "IVF{lists},RaBitQfs,Refine(SQ8)"),
    Faiss("faiss RaBitQ FastScan of 4 bits", "IVF{lists},RaBitQfs4"),
)
