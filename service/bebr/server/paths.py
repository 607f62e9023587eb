r"""Line ends in paths. A `$` of the router also matches before the last one, and its `.` matches none.

So a path that ends in one gets a character behind it, which no route knows; and ids, which may hold any characters, are
read by a convertor that takes it off again.
"""

from typing import Any

from starlette.convertors import Convertor, register_url_convertor
from starlette.types import Scope

END = "\0"


class _Id(Convertor[str]):
    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value.removesuffix(END)

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("id", _Id())


def with_true_end(scope: Scope) -> Any:
    """The scope, with a path whose end the router sees as it is."""
    path = scope["path"]
    return {**scope, "path": path + END} if path[-1:] in ("\n", END) else scope
