"""Which part of a point's metadata a reader gets: the same for hits and for points."""

import json

from bebr.core.types import field_value

Wanted = bool | list[str]
"""True: all metadata; False: none; a list: only these keys, or what lies at these paths."""


def project(metadata: str, wanted: Wanted) -> str | None:
    """A JSON object as text -> what is wanted of it, as text. None: nothing is."""
    if isinstance(wanted, bool):
        return metadata if wanted else None
    full = json.loads(metadata)
    found = {key: full[key] if key in full else field_value(full, key) for key in wanted}
    return json.dumps(
        {key: value for key, value in found.items() if key in full or value is not None}, ensure_ascii=False
    )
