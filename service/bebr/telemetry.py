"""What an operator sees happen: one way to log an event, lines for people or for machines, the request that caused it.

    event       logs what happened, with fields
    Request     the request that is being served: its id is in every line that is logged meanwhile
    Budget      a bound on the lines of one kind, which counts those it leaves out
    Outage      something that goes away and comes back: one line for each, however often it is asked

    log = logging.getLogger(__name__)
    event(log, "job ended", job="3f2a", state="failed")

A name of an event is a few plain words that never change; whatever differs is a field. Secrets are no fields.
"""

import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

_PLAIN = re.compile(r"[\w.:/@+%,*()\[\]{}-]+")
_MAX_TEXT_CHARS = 1000


def event(log: logging.Logger, name: str, level: int = logging.INFO, **fields: Any) -> None:
    """Log that `name` happened. A field that is None is left out."""
    if log.isEnabledFor(level):
        log.log(level, name, extra={"fields": {key: value for key, value in fields.items() if value is not None}})


class Request:
    """The request that the code of this task, and of the tasks that it starts, is serving until `ended`."""

    __slots__ = ("id",)

    def __init__(self, id: str) -> None:
        self.id = id
        _serving.set(self)

    def ended(self) -> None:
        """A background task that the request started goes on, but no longer for it."""
        self.id = ""


_serving: ContextVar[Request | None] = ContextVar("request", default=None)


def request_id() -> str:
    """The id of the request that is being served, or ''."""
    serving = _serving.get()
    return serving.id if serving is not None else ""


class TextLines(logging.Formatter):
    """2026-01-31 12:00:00,000 INFO bebr.jobs.runner: job ended job=3f2a state=failed request=5d1c-7"""

    def __init__(self, always: Mapping[str, Any] | None = None) -> None:
        """always: fields of every line."""
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._always = dict(always or {})

    def formatMessage(self, record: logging.LogRecord) -> str:
        named = self._always | getattr(record, "fields", {})
        if known := request_id():
            named.setdefault("request", known)
        return " ".join([super().formatMessage(record), *(f"{key}={_text(value)}" for key, value in named.items())])


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, request, and the fields of the event."""

    def __init__(self, always: Mapping[str, Any] | None = None) -> None:
        """always: fields of every line."""
        super().__init__()
        self._always = dict(always or {})

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        } | self._always
        if known := request_id():
            line["request"] = known
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class Budget:
    """A maximum of lines per second. Not for several threads at once: a line more or less does not matter."""

    def __init__(self, per_second: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._clock = clock
        self._until = 0.0
        self._left = 0
        self._skipped = 0

    def take(self, count: int = 1) -> bool:
        """Whether a line may be written now. count: how many it stands for; all but one are left out."""
        if not self._left:
            now = self._clock()
            if now < self._until or not self._per_second:
                self._skipped += count
                return False
            self._until, self._left = now + 1.0, self._per_second
        self._left -= 1
        self._skipped += count - 1
        return True

    def skipped(self) -> int | None:
        """How many were left out since this was last asked; None for none."""
        skipped, self._skipped = self._skipped, 0
        return skipped or None


class Outage:
    """Something that is away or here. Logs when that changes; `began` is the time of the outage, or None."""

    def __init__(self, log: logging.Logger, gone: str, back: str, **fields: Any) -> None:
        self._log = log
        self._gone = gone
        self._back = back
        self._fields = fields
        self.began: float | None = None

    def fails(self, why: object, **fields: Any) -> None:
        """It is away."""
        if self.began is None:
            self.began = time.monotonic()
            event(self._log, self._gone, logging.ERROR, **self._fields, **fields, why=str(why))

    def works(self) -> None:
        """It is here."""
        if self.began is not None:
            seconds, self.began = round(time.monotonic() - self.began, 3), None
            event(self._log, self._back, logging.WARNING, **self._fields, seconds=seconds)


def _text(value: Any) -> str:
    """A field as text: quoted where it is not one word, and never more than one line."""
    text = str(value)[:_MAX_TEXT_CHARS]
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)
