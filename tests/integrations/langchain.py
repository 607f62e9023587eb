"""bebr as a vector store of LangChain, with the client alone: embeddings are made by LangChain, and sent as vectors."""

import uuid
from collections.abc import Iterable, Sequence
from typing import Any, Self

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore

import bebr


class BebrVectorStore(VectorStore):
    """A collection. Metadata of a point: `text`, and `metadata` of the document."""

    def __init__(self, url: str, collection: str, embedding: Embeddings) -> None:
        self._url = url
        self._collection = collection
        self._embedding = embedding

    @property
    def embeddings(self) -> Embeddings:
        return self._embedding

    @classmethod
    def from_texts(cls, texts: list[str], embedding: Embeddings, metadatas: Any = None, **kwargs: Any) -> Self:
        store = cls(kwargs["url"], kwargs["collection"], embedding)
        store.add_texts(texts, metadatas, ids=kwargs.get("ids"))
        return store

    def add_texts(self, texts: Iterable[str], metadatas: Any = None, *, ids: Any = None, **_: Any) -> list[str]:
        given = _points([*texts], metadatas, ids)
        vectors = self._embedding.embed_documents([metadata["text"] for metadata in given.values()])
        with bebr.Client(self._url) as client:
            report = client.upsert_vectors(self._collection, [*given], vectors, [*given.values()])
        assert not report.rejected, report.items
        return [*given]

    async def aadd_texts(self, texts: Iterable[str], metadatas: Any = None, *, ids: Any = None, **_: Any) -> list[str]:
        given = _points([*texts], metadatas, ids)
        vectors = await self._embedding.aembed_documents([metadata["text"] for metadata in given.values()])
        async with bebr.AsyncClient(self._url) as client:
            report = await client.upsert_vectors(self._collection, [*given], vectors, [*given.values()])
        assert not report.rejected, report.items
        return [*given]

    def delete(self, ids: list[str] | None = None, **options: Any) -> bool:
        with bebr.Client(self._url) as client:
            client.delete(self._collection, ids, filter=options.get("filter"))
        return True

    async def adelete(self, ids: list[str] | None = None, **options: Any) -> bool:
        async with bebr.AsyncClient(self._url) as client:
            await client.delete(self._collection, ids, filter=options.get("filter"))
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        with bebr.Client(self._url) as client:
            return [_document(point) for point in client.get(self._collection, ids).points]

    async def aget_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        async with bebr.AsyncClient(self._url) as client:
            return [_document(point) for point in (await client.get(self._collection, ids)).points]

    def similarity_search_with_score(self, query: str, k: int = 4, **options: Any) -> list[tuple[Document, float]]:
        vector = self._embedding.embed_query(query)
        with bebr.Client(self._url) as client:
            found = client.search(self._collection, vector=vector, limit=k, **options)
        return [(_document(hit), hit.score) for hit in found]

    def similarity_search(self, query: str, k: int = 4, **options: Any) -> list[Document]:
        return [document for document, _ in self.similarity_search_with_score(query, k, **options)]

    async def asimilarity_search(self, query: str, k: int = 4, **options: Any) -> list[Document]:
        vector = await self._embedding.aembed_query(query)
        async with bebr.AsyncClient(self._url) as client:
            return [_document(hit) for hit in await client.search(self._collection, vector=vector, limit=k, **options)]


def _points(texts: list[str], metadatas: Any, ids: Any) -> dict[str, dict[str, Any]]:
    """Metadata by id."""
    names = [name or str(uuid.uuid4()) for name in ids or [None] * len(texts)]
    given = zip(texts, metadatas or [{}] * len(texts), strict=True)
    return dict(zip(names, ({"text": text, "metadata": metadata} for text, metadata in given), strict=True))


def _document(found: Any) -> Document:
    return Document(id=found.id, page_content=found.metadata["text"], metadata=found.metadata["metadata"])
