"""Errors as problem documents."""

from bebr.errors import BebrError, DamagedSegment, DimensionMismatch, JobNotFound, NotReady
from bebr.server.problems import STATUS, status_of, title_of


def test_every_error_has_a_status() -> None:
    def all_of(error: type[BebrError]) -> list[type[BebrError]]:
        return [error, *(deeper for child in error.__subclasses__() for deeper in all_of(child))]

    assert {status_of(error) for error in all_of(BebrError)} <= set(STATUS.values())
    expected = {DimensionMismatch: 400, JobNotFound: 404, NotReady: 503, DamagedSegment: 500}
    assert {error: status_of(error) for error in expected} == expected
    assert title_of(DimensionMismatch) == "Dimension mismatch"
