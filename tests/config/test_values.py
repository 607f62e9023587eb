"""How one value is written."""

import pytest

from bebr.config import LogLevel, load_settings
from bebr.errors import InvalidOption


@pytest.mark.parametrize(
    ("variable", "written", "meant"),
    [
        ("BEBR_MAX_BODY_BYTES", "64MiB", 64 * 2**20),
        ("BEBR_MAX_BODY_BYTES", "1.5 GiB", 3 * 2**29),
        ("BEBR_MAX_BODY_BYTES", "2gb", 2 * 10**9),
        ("BEBR_MAX_BODY_BYTES", "512Mi", 2**29),
        ("BEBR_MAX_BODY_BYTES", "1_000_000", 10**6),
        ("BEBR_STORE_TIMEOUT_SECONDS", "500ms", 0.5),
        ("BEBR_STORE_TIMEOUT_SECONDS", "2.5", 2.5),
        ("BEBR_RECEIPT_TTL_SECONDS", "2h", 7200.0),
        ("BEBR_BATCHING", "off", False),
        ("BEBR_BATCHING", "1", True),
        ("BEBR_API_KEYS", "one, two,", ("one", "two")),
        ("BEBR_API_KEYS", "none", ()),
        ("BEBR_REDIS_URL", "redis://:secret@db:6379/0", "redis://:secret@db:6379/0"),
        ("BEBR_REDIS_URL", "redis://u:p@a:7000,b:7001,c", "redis://u:p@a:7000,b:7001,c"),
        ("BEBR_REDIS_URL", "none", None),
        ("BEBR_REDIS_URL", "unix:///run/redis.sock", "unix:///run/redis.sock"),
        ("BEBR_LOG_LEVEL", "WARNING", LogLevel.WARNING),
        ("BEBR_ONNX_PROVIDERS", "CUDA, cpu", ("cuda", "cpu")),
    ],
)
def test_values_are_read_with_their_units(variable: str, written: str, meant: object):
    assert getattr(load_settings({}, {variable: written}), variable.removeprefix("BEBR_").lower()) == meant


@pytest.mark.parametrize(
    ("variable", "written"),
    [
        ("BEBR_PORT", "eighty"),
        ("BEBR_PORT", "65536"),
        ("BEBR_PORT", ""),
        ("BEBR_MAX_LIMIT", "0"),
        ("BEBR_MAX_LIMIT", "1.5"),
        ("BEBR_MAX_BODY_BYTES", "2G"),
        ("BEBR_MAX_BODY_BYTES", "-1"),
        ("BEBR_MAX_BODY_BYTES", "lots"),
        ("BEBR_STORE_TIMEOUT_SECONDS", "0"),
        ("BEBR_STORE_TIMEOUT_SECONDS", "5 parsecs"),
        ("BEBR_BATCHING", "perhaps"),
        ("BEBR_HOST", " "),
        ("BEBR_LOG_LEVEL", "loud"),
        ("BEBR_ONNX_PROVIDERS", ""),
        ("BEBR_ONNX_PROVIDERS", "gpu"),
        ("BEBR_ONNX_PROVIDERS", "cpu,cpu"),
        ("BEBR_REDIS_URL", "http://db"),
        ("BEBR_REDIS_URL", "redis://a:7000,"),
        ("BEBR_REDIS_URL", "redis://a:7000,b:x"),
        ("BEBR_REDIS_URL", ""),
        ("BEBR_REDIS_URL", " "),
        ("BEBR_REDIS_URL", "redis://:pa/ss@db:6379"),
        ("BEBR_REDIS_URL", "redis:///0"),
        ("BEBR_API_KEYS", ""),
        ("BEBR_API_KEYS", " "),
        ("BEBR_API_KEYS", "a,,b"),
        ("BEBR_READ_ONLY_API_KEYS", ","),
        ("BEBR_DATA_DIR", ""),
        ("BEBR_API_KEYS", "two words"),
    ],
)
def test_a_value_that_does_not_parse_is_an_error_that_names_the_variable(variable: str, written: str):
    with pytest.raises(InvalidOption, match=f"^{variable}: expected "):
        load_settings({}, {variable: written})
