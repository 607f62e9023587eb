"""Print what pyproject.toml asks for, with the extras named as arguments, one requirement a line."""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]


def requirements_of(extra: str) -> Iterator[str]:
    """Those of the extras that it names in turn among them."""
    for requirement in project["optional-dependencies"][extra]:
        if others := re.fullmatch(rf"{project['name']}\[(.+)\]", requirement):
            for other in others[1].split(","):
                yield from requirements_of(other)
        else:
            yield requirement


print(
    "\n".join(
        dict.fromkeys([*project["dependencies"], *(one for extra in sys.argv[1:] for one in requirements_of(extra))])
    )
)
