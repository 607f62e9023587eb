"""Filters, addresses and settings from the command line."""

import pytest

from bebr.cli.options import parse_filter, service_url, settings_from
from bebr.config import Settings


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ([], None),
        (["lang=en"], {"must": [{"key": "lang", "match": {"value": "en"}}]}),
        (["year=2020"], {"must": [{"key": "year", "match": {"value": 2020}}]}),
        (['year="2020"'], {"must": [{"key": "year", "match": {"value": "2020"}}]}),
        (["draft=false"], {"must": [{"key": "draft", "match": {"value": False}}]}),
        (["a=b=c"], {"must": [{"key": "a", "match": {"value": "b=c"}}]}),
        (["a=[1]"], {"must": [{"key": "a", "match": {"value": "[1]"}}]}),
        (['{"should": []}'], {"should": []}),
        (["a=b", '{"should": []}'], {"must": [{"key": "a", "match": {"value": "b"}}, {"should": []}]}),
    ],
)
def test_filters_may_be_short_or_json(given: list[str], meant: object):
    assert parse_filter(given) == meant


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("db.example", "http://db.example:8000"),
    ],
)
def test_a_client_on_the_same_machine_finds_the_service(host: str, url: str):
    assert service_url(Settings(host=host)) == url


def test_other_settings_are_set_by_name():
    settings = settings_from(None, {"port": None}, ["max_queue=5", "BEBR_BATCHING=off"])
    assert (settings.max_queue, settings.batching, settings.port) == (5, False, 8000)
