"""No option of any command is dropped silently: each changes something, or is refused in words that name it.

A new option needs an entry in `table`. Options that many commands share are tried by one rule each.
"""

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from tests.cli.every_option.table import TABLE
from tests.cli.every_option.trials import Command, Elsewhere, Stage, Try, bebr
from tests.client.running import running_service, service_of_two_models
from tests.encoding.importing.checkpoints import DIMS, write_checkpoint
from tests.encoding.quantization.embeddings import text_like
from tests.engine.two_models import texts
from tests.training.evaluated import write_collection
from tests.training.two_spaces import OLD_SPEC, SPEC, two_spaces, vector_bundle

from bebr.cli.app import app
from bebr.cli.reference import commands, options
from bebr.client import Client

CLI = Path(__file__).parents[1]
KEY = "k" * 20
NOWHERE = "http://127.0.0.1:9"
COMMANDS = {name.removeprefix("bebr "): options(callback) for name, callback in commands(app, "bebr")}
SHARED = ("--url", "--api-key", "--json", "--data-dir", "--config", "--set", "--redis-url")
OWN = [(name, flag) for name, flags in COMMANDS.items() for flag in flags if flag not in SHARED]
COMMON = [(name, flag) for name, flags in COMMANDS.items() for flag in flags if flag in SHARED]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("stage")
    rows, old_rows = two_spaces(300)
    np.save(folder / "rows.npy", rows)
    np.save(folder / "old_rows.npy", old_rows)
    np.save(folder / "query.npy", text_like(1, dims=DIMS)[0])
    (folder / "ids").write_text("\n".join(f"id{n}" for n in range(len(rows))))
    points = [
        {"id": f"p{n}", "text": text, "metadata": {"lang": ("en", "de")[n % 2]}} for n, text in enumerate(texts(30))
    ]
    (folder / "texts.ndjson").write_text("\n".join(map(json.dumps, points)))
    (folder / "flat.ndjson").write_text(
        "\n".join(json.dumps({"id": p["id"], "text": p["text"], "x": 1}) for p in points)
    )
    (folder / "columns.csv").write_text("id,key,text,other\na,b;c,the cat,the dog\nb,d;e,a dog,a cat\n")
    vectors = {"id": ["a", "b"], "emb": text_like(2, dims=8).tolist(), "other": text_like(2, seed=3, dims=4).tolist()}
    pyarrow.parquet.write_table(pa.table(vectors), folder / "vectors.parquet")
    files = (
        "query.npy",
        "rows.npy",
        "old_rows.npy",
        "ids",
        "texts.ndjson",
        "flat.ndjson",
        "columns.csv",
        "vectors.parquet",
    )
    names = {name.partition(".")[0]: str(folder / name) for name in files} | {
        "checkpoint": str(write_checkpoint(folder / "tiny")),
        "judged": str(write_collection(folder / "judged")),
        "new_vectors": str(vector_bundle(folder / "bundles", "new@2", rows, SPEC).path),
        "old_vectors": str(vector_bundle(folder / "bundles", "old@1", old_rows, OLD_SPEC).path),
        "file": str(folder / "ids"),
        "exported": str(folder / "docs.ndjson"),
        "data": str(folder / "two" / "service"),
        "backup": str(folder / "backup"),
        "bundle": "old@1",
        "key": KEY,
        "nowhere": NOWHERE,
    }
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        running_service(folder / "locked", api_keys=(KEY,)) as locked,
        service_of_two_models(folder / "two") as service,
        Client(service.url, retries=0) as client,
        pytest.MonkeyPatch.context() as patch,
    ):
        names |= {"port": str(taken.getsockname()[1]), "locked": locked.url}
        patch.setenv("COLUMNS", "200")
        patch.setenv("BEBR_URL", service.url)
        patch.setattr("bebr.client.steps.FIRST_PAUSE_SECONDS", 0.0)
        for name in ("docs", "other"):
            client.create_collection(name, bundle="old@1", filterable={"lang": "keyword"})
            client.upsert(name, points[: 30 if name == "docs" else 10])
        shutil.copytree(folder / "two" / "bundles" / "old@1", folder / "two" / "service" / "bundles" / "old@1")
        assert bebr(f"backup {names['backup']} --data-dir {names['data']}")[0] == 0
        assert bebr("alias set docs-alias docs")[0] == 0
        assert bebr(f"export docs {names['exported']}")[0] == 0
        names["job"] = json.loads(bebr(f"ingest {names['flat']} -c docs --json")[1])["job"]
        yield Stage(folder, client, names)


def entry(name: str, flag: str) -> tuple[Command, Try | Elsewhere]:
    assert name in TABLE and flag in TABLE[name].options, (
        f"nothing tries `bebr {name} {flag}`: add it to {CLI.name}/every_option/table.py"
    )
    return TABLE[name], TABLE[name].options[flag]


def check(stage: Stage, command: Command, flag: str, tried: Try | Elsewhere) -> None:
    if isinstance(tried, Elsewhere):
        source = (CLI / tried.file).read_text("utf-8")
        assert f"def {tried.test}(" in source and (tried.says or flag) in source
        return
    base = command.base if tried.base is None else tried.base
    before = command.before if tried.before is None else tried.before
    if tried.refused is None:
        assert stage.changes(base, tried.more, before, tried.fails), f"`{base}` does the same with `{tried.more}`"
        return
    refused = stage.run(f"{base} {tried.more}", before)
    said = tried.refused.format(**stage.names)
    assert refused.code in (1, 2) and said in " ".join((refused.output + refused.errors).split()), refused


@pytest.mark.parametrize(("name", "flag"), OWN)
def test_every_option_changes_something_or_is_refused(stage: Stage, name: str, flag: str) -> None:
    command, tried = entry(name, flag)
    check(stage, command, flag, tried)


SHARED_RULES = {
    "--url": Try("--url {nowhere}", refused="cannot reach http://127.0.0.1:9", before=()),
    "--config": Try("--config none.toml", refused="none.toml", before=()),
    "--set": Try("--set nonsense=1", refused="unknown setting 'nonsense'", before=()),
    "--redis-url": Try("--redis-url http://x", refused="redis", before=()),
    "--data-dir": Try("--data-dir {dir}/other"),
    "--json": Try("--json"),
}


@pytest.mark.parametrize(("name", "flag"), COMMON)
def test_options_that_many_commands_share_are_honored_by_each(stage: Stage, name: str, flag: str) -> None:
    assert name in TABLE, f"nothing tries `bebr {name}`: add it to {CLI.name}/every_option/table.py"
    command = TABLE[name]
    with_key = Try("--api-key {key}", base=f"{command.base} --url {{locked}}", before=(), fails=None)
    check(stage, command, flag, command.shared.get(flag) or SHARED_RULES.get(flag, with_key))


BESIDE = [(name, tried) for name, command in TABLE.items() for tried in command.beside]


@pytest.mark.parametrize(("name", "tried"), BESIDE, ids=[f"{name} {tried.more}" for name, tried in BESIDE])
def test_options_that_do_nothing_beside_others_are_refused(stage: Stage, name: str, tried: Try) -> None:
    assert tried.refused is not None
    check(stage, TABLE[name], "", tried)


def test_the_table_names_no_option_that_is_not_there() -> None:
    assert TABLE.keys() == COMMANDS.keys()
    for name, command in TABLE.items():
        assert {*command.options, *command.shared} <= {*COMMANDS[name]}, name
