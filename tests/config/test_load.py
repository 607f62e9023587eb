"""Where values come from, and what is wrong with them."""

from pathlib import Path

import pytest

from bebr.config import LogLevel, Settings, load, load_settings
from bebr.errors import InvalidOption


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "bebr.toml"
    path.write_text('port = 1111\nhost = "file"\nmax_queue = 7\nlog_level = "debug"\napi_keys = ["a", "b"]\n')
    return path


def test_flags_win_over_environment_over_file_over_default(file: Path):
    env = {"BEBR_HOST": "env", "BEBR_PORT": "2222", "HOME": "/somewhere"}
    loaded = load({"port": 3333, "max_queue": None}, env, file)
    settings = loaded.settings
    assert (settings.port, settings.host, settings.max_queue, settings.max_limit) == (3333, "env", 7, 10_000)
    assert settings.log_level is LogLevel.DEBUG
    assert settings.api_keys == ("a", "b")
    assert [loaded.sources[name] for name in ("port", "host", "max_queue", "max_limit")] == [
        "flag",
        "BEBR_HOST",
        str(file),
        "default",
    ]


def test_the_environment_names_the_file(file: Path):
    assert load_settings({}, {"BEBR_CONFIG": str(file)}).port == 1111


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("BEBR_PROT", "BEBR_PORT"),
        ("BEBR_DATADIR", "BEBR_DATA_DIR"),
        ("BEBR_API_KEY_S", "BEBR_API_KEYS"),
        ("BEBR_REDIS", "BEBR_REDIS_URL"),
    ],
)
def test_an_unknown_variable_is_an_error_with_the_nearest_name(variable: str, nearest: str):
    with pytest.raises(InvalidOption, match=rf"unknown variable {variable}; did you mean {nearest}\?"):
        load_settings({}, {variable: "x"})


def test_a_variable_may_name_a_file_with_the_value(tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_text("first,second\n")
    loaded = load({}, {"BEBR_API_KEYS_FILE": str(secret), "BEBR_PORT": "1"})
    assert (loaded.settings.api_keys, loaded.settings.port) == (("first", "second"), 1)
    assert loaded.sources["api_keys"] == "BEBR_API_KEYS_FILE"
    with pytest.raises(InvalidOption, match="both BEBR_API_KEYS and BEBR_API_KEYS_FILE are set"):
        load({}, {"BEBR_API_KEYS": "a", "BEBR_API_KEYS_FILE": str(secret)})
    with pytest.raises(InvalidOption, match=r"BEBR_API_KEYS_FILE: '.*missing' cannot be read"):
        load({}, {"BEBR_API_KEYS_FILE": str(tmp_path / "missing")})
    secret.write_text("\n")
    with pytest.raises(InvalidOption, match="BEBR_API_KEYS_FILE: expected keys"):
        load({}, {"BEBR_API_KEYS_FILE": str(secret)})


def test_variables_of_the_kernel_and_the_client_are_known():
    env = {"BEBR_KERNEL_ISA": "avx2", "BEBR_URL": "http://x", "BEBR_API_KEY": "k", "BEBR_CONFIG": ""}
    assert load_settings({}, env) == Settings()


@pytest.mark.parametrize(
    ("variable", "value"), [("BEBR_PORT", "tcp://10.0.0.1:8000"), ("BEBR_SERVICE_HOST", "10.0.0.1")]
)
def test_service_links_of_kubernetes_are_named(variable: str, value: str):
    with pytest.raises(InvalidOption, match="enableServiceLinks"):
        load_settings({}, {variable: value})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot = 1", r"unknown setting 'prot' .*did you mean port\?"),
        ("port = ", "cannot be read"),
        ('port = "x"', "port in '.*': expected a whole number"),
        ("port = true", "port in '.*': expected a whole number"),
        ("host = 7", "host in '.*': expected a text"),
        ("[search]\nthreads = 2", "unknown setting 'search'"),
    ],
)
def test_a_file_that_is_wrong_is_an_error(tmp_path: Path, text: str, message: str):
    path = tmp_path / "bebr.toml"
    path.write_text(text)
    with pytest.raises(InvalidOption, match=message):
        load_settings({}, {}, path)


def test_a_missing_file_is_an_error(tmp_path: Path):
    with pytest.raises(InvalidOption, match="does not exist"):
        load_settings({}, {}, tmp_path / "none.toml")


def test_an_unknown_flag_is_an_error():
    with pytest.raises(InvalidOption, match="did you mean port"):
        load_settings({"prt": 1}, {})
