"""Answers of the probes, and about the service itself."""

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field

from bebr.server.responses.base import Answer, iso
from bebr.store import Member as StoreMember


class Health(Answer):
    status: Literal["alive", "ready"]


class Member(Answer):
    name: str = Field(examples=["host-1:41"])
    version: str = Field(examples=["0.1.0"], description="Of bebr.")
    since: str = Field(examples=["2026-01-01T12:00:00Z"])
    is_this: bool = Field(description="Whether it is the service that answers.")


class MemberList(Answer):
    members: list[Member]

    @classmethod
    def of(cls, members: Sequence[StoreMember]) -> Self:
        return cls(
            members=[
                Member(name=one.name, version=one.version, since=iso(one.since) or "", is_this=one.is_this)
                for one in members
            ]
        )
