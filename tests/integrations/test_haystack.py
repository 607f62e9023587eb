"""Haystack's standard tests of document stores: base, extended, and counting by filter.

Left out are those of `CountUniqueMetadataByFilterTest`, `GetMetadataFieldsInfoTest`, `GetMetadataFieldMinMaxTest` and
`GetMetadataFieldUniqueValuesTest`: they need counts by value of a field, which the service does not have yet.
"""

import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest
from haystack import Document
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.testing.document_store import CountDocumentsByFilterTest, DocumentStoreBaseExtendedTests
from tests.integrations.haystack import BebrDocumentStore

DIMS = 768
FIELDS = {
    **dict.fromkeys(("name", "page", "chapter", "date", "category", "status", "extra_field"), "keyword"),
    **dict.fromkeys(("number", "year", "priority"), "integer"),
    **dict.fromkeys(("updated", "featured", "no_embedding"), "bool"),
}


class TestBebrDocumentStore(DocumentStoreBaseExtendedTests, CountDocumentsByFilterTest):
    @pytest.fixture
    def document_store(self, url: str) -> Iterator[BebrDocumentStore]:
        store = BebrDocumentStore(url, f"haystack-{uuid.uuid4()}", DIMS, FIELDS)
        yield store
        store.close()

    @staticmethod
    def assert_documents_are_equal(received: list[Document], expected: list[Document]) -> None:
        """The order is that of ids, and codes are kept instead of embeddings."""
        without = [replace(document, embedding=None) for document in expected]
        assert received == sorted(without, key=lambda document: document.id)

    def test_write_documents(self, document_store: BebrDocumentStore) -> None:
        """Without a policy a document that exists is an error."""
        documents = [Document(id="1"), Document(id="2", content="two", meta={"name": "x", "inner": {"a": [1, None]}})]
        assert document_store.write_documents(documents) == 2
        self.assert_documents_are_equal(document_store.filter_documents(), documents)
        with pytest.raises(DuplicateDocumentError):
            document_store.write_documents(documents)


def test_retrieval(url: str) -> None:
    store = BebrDocumentStore(url, "haystack", 8, FIELDS)
    rows = [[float(i == j) for j in range(8)] for i in range(8)]
    store.write_documents([Document(id=f"{i}", embedding=row, meta={"number": i % 2}) for i, row in enumerate(rows)])
    odd = {"field": "meta.number", "operator": "==", "value": 1}
    found = store.embedding_retrieval([0.0, 0.0, 0.0, 1.0, 0.5, 0.2, 0.0, 0.0], odd, top_k=2)
    assert [document.id for document in found] == ["3", "5"] and found[0].score > found[1].score
    assert store.to_dict()["init_parameters"]["collection"] == "haystack"
    store.close()
