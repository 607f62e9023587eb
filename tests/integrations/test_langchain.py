"""LangChain's standard tests of vector stores, blocking and asynchronous."""

import uuid
from collections.abc import Iterator

import pytest
from langchain_tests.integration_tests.vectorstores import EMBEDDING_SIZE, VectorStoreIntegrationTests
from tests.integrations.langchain import BebrVectorStore

import bebr


class TestBebrVectorStore(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, url: str) -> Iterator[BebrVectorStore]:
        """A new collection for embeddings of the tests' size."""
        name = f"langchain-{uuid.uuid4()}"
        with bebr.Client(url) as client:
            client.create_collection(name, fit={"bytes": 2, "dims": EMBEDDING_SIZE})
            yield BebrVectorStore(url, name, self.get_embeddings())
            client.delete_collection(name)


def test_filters_and_scores(url: str) -> None:
    """What the standard tests leave out."""
    embedding = VectorStoreIntegrationTests.get_embeddings()
    with bebr.Client(url) as client:
        client.create_collection("notes", fit={"bytes": 2, "dims": EMBEDDING_SIZE}, filterable={"text": "keyword"})
    texts = ["foo", "bar", "baz"]
    store = BebrVectorStore.from_texts(texts, embedding, [{"n": n} for n in range(3)], url=url, collection="notes")
    only = {"must": [{"key": "text", "match": {"any": ["foo", "bar"]}}]}
    ((best, score), (other, _)) = store.similarity_search_with_score("foo", k=3, filter=only)
    assert (best.page_content, best.metadata, other.page_content) == ("foo", {"n": 0}, "bar")
    assert score == pytest.approx(1, abs=0.02)
    retriever = store.as_retriever(search_kwargs={"k": 1})
    assert [document.page_content for document in retriever.invoke("baz")] == ["baz"]
