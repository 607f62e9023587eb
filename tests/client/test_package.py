"""What `import bebr` gives, and that it stays light."""

import subprocess
import sys

import bebr
from bebr import client, errors

ERRORS = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}


def test_clients_and_errors_are_listed_and_exported() -> None:
    assert set(bebr.__all__) == ERRORS | {"AsyncClient", "Client"}
    assert set(bebr.__all__) <= set(dir(bebr))
    assert bebr.Client is client.Client and bebr.AlreadyExists is errors.AlreadyExists
    names: dict[str, object] = {}
    exec("from bebr import *", names)
    assert names.keys() >= set(bebr.__all__)
    assert not hasattr(bebr, "Clients")


def test_the_import_stays_light() -> None:
    heavy = "{'httpx', 'numpy', 'pydantic', 'asyncio'} & sys.modules.keys()"
    code = f"import sys, bebr; bebr.AlreadyExists; dir(bebr); assert not {heavy}, {heavy}"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
