"""Settings: where they come from, what they mean, and what this machine offers.

settings   the frozen dataclass `Settings`, one field per setting with its help
limits     the settings among them that the engine and the API are handed
values     how one value is written: sizes, durations, keys
load       flags, BEBR_* variables and a TOML file -> Settings
report     the table of `bebr config` and docs/settings.md
machine    cores and memory of this machine or container
"""

from bebr.config.limits import Limits, OnFitDrift
from bebr.config.load import Loaded, load, load_settings
from bebr.config.settings import LogFormat, LogLevel, Settings, Synchronous

__all__ = [
    "Limits",
    "Loaded",
    "LogFormat",
    "LogLevel",
    "OnFitDrift",
    "Settings",
    "Synchronous",
    "load",
    "load_settings",
]
