"""Answers of the probes."""

from typing import Literal

from bebr.server.responses.base import Answer


class Health(Answer):
    status: Literal["alive", "ready"]
