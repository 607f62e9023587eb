"""What people see of settings."""

from dataclasses import fields
from pathlib import Path

import pytest

from bebr.config import Settings, load_settings
from bebr.config.report import settings_markdown, shown_value
from bebr.config.settings import setting_fields
from bebr.errors import InvalidOption

ROOT = Path(__file__).parents[2]


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


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:1/0", "redis://h:1/0"),
        ("redis://s3cret@h:1/0", "redis://***@h:1/0"),
        ("redis://:s3cret@h:1/0", "redis://***@h:1/0"),
        ("redis://h:1/0?password=s3cret&db=2", "redis://h:1/0?password=***&db=2"),
        ("rediss://u:s3cret@[::1]:1/0?ssl_keyfile=s3cret", "rediss://u:***@[::1]:1/0?ssl_keyfile=***"),
        ("unix://u:s3cret@/run/r.sock?password=s3cret#s3cret", "unix://u:***@/run/r.sock?password=***"),
    ],
)
def test_no_part_of_an_address_shows_its_secret(url: str, shown: str):
    redis_url = next(field for field in setting_fields() if field.name == "redis_url")
    assert shown_value(redis_url, load_settings({}, {"BEBR_REDIS_URL": url}).redis_url) == shown


@pytest.mark.parametrize("url", ["redis://:s3cret/x@h:1/0", "redis://:s3cret@h:port", "redis://h:1/0?s3cret"])
def test_an_address_that_does_not_parse_is_not_repeated(url: str):
    try:
        load_settings({}, {"BEBR_REDIS_URL": url})
    except InvalidOption as error:
        assert "s3cret" not in str(error)


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
