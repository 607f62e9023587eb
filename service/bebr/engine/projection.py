"""Which part of a point's metadata a reader gets: the same for hits and for points."""

import json

Wanted = bool | list[str]
"""True: all metadata; False: none; a list: only these keys."""


def project(metadata: str, wanted: Wanted) -> str | None:
    """A JSON object as text -> what is wanted of it, as text. None: nothing is."""
    if isinstance(wanted, bool):
        return metadata if wanted else None
    full = json.loads(metadata)
    return json.dumps({key: full[key] for key in wanted if key in full}, ensure_ascii=False)
