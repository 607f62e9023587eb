"""Settings: precedence, unknown names, values that do not parse, secrets, and the page that lists them all."""

from dataclasses import fields
from pathlib import Path

import pytest

from bebr.config import Limits, LogLevel, Settings, load, load_settings, machine
from bebr.config.report import settings_markdown, shown_value
from bebr.config.settings import setting_fields
from bebr.errors import InvalidOption

ROOT = Path(__file__).parents[2]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "bebr.toml"
    path.write_text('port = 1111\nhost = "file"\nmax_queue = 7\nlog_level = "debug"\napi_keys = ["a", "b"]\n')
    return path


def test_the_default_service_needs_nothing_set():
    settings = load_settings({}, {})
    assert settings == Settings()
    assert (settings.host, settings.port, settings.redis_url) == ("127.0.0.1", 8000, None)
    assert settings.bundles_dir == Path("bebr-data/bundles")


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


def test_the_folder_of_bundles_follows_the_data_folder():
    assert load_settings({"data_dir": "/d"}, {}).bundles_dir == Path("/d/bundles")
    assert load_settings({"data_dir": "/d"}, {"BEBR_BUNDLES_DIR": "/b"}).bundles_dir == Path("/b")


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
        ("BEBR_API_KEYS", "", ()),
        ("BEBR_REDIS_URL", "redis://:secret@db:6379/0", "redis://:secret@db:6379/0"),
        ("BEBR_REDIS_URL", "", None),
        ("BEBR_LOG_LEVEL", "WARNING", LogLevel.WARNING),
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
        ("BEBR_REDIS_URL", "http://db"),
        ("BEBR_DATA_DIR", ""),
        ("BEBR_API_KEYS", "two words"),
    ],
)
def test_a_value_that_does_not_parse_is_an_error_that_names_the_variable(variable: str, written: str):
    with pytest.raises(InvalidOption, match=f"^{variable}: expected "):
        load_settings({}, {variable: written})


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


def test_secrets_appear_nowhere():
    env = {
        "BEBR_API_KEYS": "s3cret,other",
        "BEBR_READ_ONLY_API_KEYS": "s3cret2",
        "BEBR_REDIS_URL": "redis://user:s3cret@h:1/0",
    }
    settings = load_settings({}, env)
    shown = " ".join(shown_value(f, getattr(settings, f.name)) for f in setting_fields())
    assert "s3cret" not in repr(settings) + shown
    assert "2 set" in shown
    assert "redis://user:***@h:1/0" in shown
    with pytest.raises(InvalidOption) as error:
        load_settings({}, {"BEBR_API_KEYS": "s3cret with blanks"})
    assert "s3cret" not in str(error.value)


def test_limits_are_the_part_for_engine_and_api():
    limits = load_settings({"max_limit": 5}, {}).limits
    assert type(limits) is Limits
    assert limits.max_limit == 5
    assert limits.memory_bytes == machine.memory_bytes() * 8 // 10
    assert Limits(max_memory_bytes=1000).memory_bytes == 1000


def test_threads_default_to_the_cores_of_the_machine():
    assert Settings().search_thread_count == machine.cores() >= 1
    assert Settings(search_threads=3, encoder_threads=4).encoder_thread_count == 4


def test_every_default_reads_back_as_itself():
    """What the docs show as the default can be pasted as a value."""
    for setting in fields(Settings):
        if setting.metadata["secret"]:
            continue
        shown = shown_value(setting, setting.default)
        assert setting.metadata["kind"].parse(shown) == setting.default, setting.name


def test_every_setting_has_help_and_stands_in_the_docs():
    assert all(f.metadata["help"].endswith(".") for f in fields(Settings))
    written = (ROOT / "docs" / "settings.md").read_text("utf-8")
    assert written == settings_markdown(), "run: bebr config --markdown > docs/settings.md"
