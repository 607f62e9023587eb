"""Every command, what it needs, and for each of its options what is typed to see that it does something.

In braces: {dir} a folder of the run's own, {new} a free name of a collection, and what `stage` in the test has made.
"""

from tests.cli.every_option.trials import Command, Elsewhere, Try

OLD = "ingest {texts} -c {new} --bundle old@1 --keep-text body"
FILTERABLE = "ingest {texts} -c {new} --bundle old@1 --filterable lang=keyword"
ATTACHED = (OLD, "upgrade attach {new} new@1")
PROMOTED = (*ATTACHED, "upgrade promote {new} new@1 --force")
BACKFILLED = (*PROMOTED, "upgrade backfill {new} --rate 0.1")
IMPORT = {
    "--name": Try("--name other"),
    "--version": Try("--version 7"),
    "--precision": Try("--precision int8"),
    "--file": Try("--file onnx/model.onnx", refused="onnx/model.onnx"),
    "--pooling": Try("--pooling cls"),
    "--max-length": Try("--max-length 9"),
    "--dims": Try("--dims 8"),
    "--layers": Try("--layers 1"),
    "--query-prefix": Try("--query-prefix 'query: '"),
    "--passage-prefix": Try("--passage-prefix 'text: '"),
    "--replace": Try(
        "--replace",
        base="models import {checkpoint} --data-dir {dir} --max-length 9",
        before=("models import {checkpoint} --data-dir {dir}",),
    ),
}
QUICK = "--preset quick --steps 2 --threads 1 --seed 1"
TRAIN = "train {rows} --code 8x2 --data-dir {dir} " + QUICK
ADAPT = (
    "train-adapter {rows} --from {new_vectors} --to {old_vectors} --to-embeddings {old_rows} --data-dir {dir} " + QUICK
)
MEASURE = "evaluate {judged} --bytes 8 --baselines sign --queries 20 --threads 1"
UNUSED = "says where bundles are, and none is written or looked for there"
UPGRADES = "versions/test_upgrade.py"
FIT, BUNDLES, ADAPTERS = "models/test_fit.py", "models/test_train.py", "models/test_train_adapter.py"
IN_A_FIT = Elsewhere("models/test_collection_fit.py", "test_fit_of_a_collection_waits_for_its_end")

TABLE: dict[str, Command] = {
    "serve": Command(
        "serve --port 0 --data-dir {dir}",
        options={
            "--host": Try("--host 203.0.113.1", refused="cannot listen on 203.0.113.1"),
            "--port": Try("--port {port}", refused="cannot listen on 127.0.0.1:{port}"),
            "--workers": Try("--workers -1", refused="expected a whole number from 0 to 256"),
            "--shared-store": Try("--shared-store", refused="shared_store is for services on one Redis or Valkey"),
            "--log-level": Elsewhere("server/test_backup.py", "test_what_a_running_service_has_is_served_elsewhere"),
            "--log-format": Try("--log-format xml", refused="expected one of text, json"),
        },
        shared={"--data-dir": Try("--data-dir {file}", refused="{file} cannot be used")},
    ),
    "demo": Command(
        "demo --port 0 --data-dir {dir}",
        options={
            "--points": Try("--points 0", refused="0 is not in the range"),
            "--upgrade": Elsewhere("server/test_demo_upgrade.py", "test_all_commands_of_the_demo_run", says="upgrade("),
            "--host": Try("--host 203.0.113.1", refused="cannot listen on 203.0.113.1"),
            "--port": Try("--port {port}", refused="cannot listen on 127.0.0.1:{port}"),
        },
        shared={"--data-dir": Try("--data-dir {file}", refused="cannot be written to {file}")},
    ),
    "ingest": Command(
        "ingest {texts} -c {new} --bundle old@1",
        options={
            "--collection": Try("--collection {new}b"),
            "--bundle": Try("--bundle new@1", base="ingest {texts} -c {new}"),
            "--keep-text": Try("--keep-text body"),
            "--filterable": Try("--filterable lang=keyword"),
            "--mode": Try("--mode insert_only", before=("ingest {texts} -c {new} --bundle old@1",)),
            "--id-field": Try("--id-field key", base="ingest {columns} -c {new} --bundle old@1"),
            "--text-field": Try("--text-field other", base="ingest {columns} -c {new} --bundle old@1"),
            "--vector-field": Try("--vector-field other", base="ingest {vectors} -c {new}"),
            "--flat": Try("--flat", base="ingest {flat} -c {new} --bundle old@1"),
            "--delimiter": Try("--delimiter ';'", base="ingest {columns} -c {new} --bundle old@1"),
            "--ids": Try("--ids {ids}", base="ingest {rows} -c {new}"),
            "--detach": Try("--detach"),
        },
    ),
    "encode": Command(
        "encode {columns} --bundle old@1 -o {dir}/out --data-dir {data}",
        options={
            "--bundle": Try("--bundle none@1", refused="none@1"),
            "--output": Try("--output {dir}/other"),
            "--part": Try("--part 0/2"),
            "--parts": Try("--parts 2"),
            "--keep-text": Try("--keep-text body"),
            "--id-field": Try("--id-field key"),
            "--text-field": Try("--text-field other"),
            "--vector-field": Try("--vector-field other", refused="expected a vector as a JSON array"),
            "--flat": Try("--flat", base="encode {flat} --bundle old@1 -o {dir}/out --data-dir {data}", fails=None),
            "--delimiter": Try("--delimiter ';'"),
            "--ids": Try(
                "--ids {ids}", base="encode {old_rows} --bundle old@1 -o {dir}/out --data-dir {data}", fails=None
            ),
            "--threads": Try("--threads 0", refused="0 is not in the range"),
            "--allow-rejected": Elsewhere("bulk/test_encode.py", "test_bad_rows_are_named_and_the_rest_lives"),
        },
        shared={
            "--data-dir": Try(
                "--data-dir {dir}/none", base="encode {columns} --bundle old@1 -o {dir}/out", refused="old@1"
            )
        },
    ),
    "search": Command(
        "search 'the cat' -c docs",
        options={
            "--like": Try("--like p1", base="search -c docs"),
            "--vector": Try("--vector {query}", base="search -c docs"),
            "--collection": Try("--collection other"),
            "--limit": Try("--limit 3"),
            "--filter": Try("--filter lang=en"),
            "--scorer": Try("--scorer hamming"),
            "--rescore": Try("--rescore", refused="rescore"),
            "--candidates": Try("--candidates 20", refused="rescore"),
            "--exact": Try("--exact --recall 0.9", refused="--recall does not apply with --exact"),
            "--recall": Try("--recall 2", refused="0.999"),
            "--show": Try("--show other"),
        },
    ),
    "fit": Command(
        "fit {rows} --bytes 4 --data-dir {dir}",
        options={
            "--cpu-seconds": Try(
                "--cpu-seconds 5", base="fit {rows} --code 8x2 --data-dir {dir}", refused="give it with --bytes"
            ),
            "--bytes": Elsewhere(FIT, "test_fit_chooses_blocks_of_a_size"),
            "--rescore-bytes": Elsewhere(FIT, "test_fit_adds_a_rescore_code"),
            "--code": Elsewhere(FIT, "test_fit_takes_blocks_and_the_model_of_a_base"),
            "--target-recall": Elsewhere(FIT, "test_fit_finds_the_smallest_code_of_a_recall"),
            "--nested": Elsewhere(FIT, "test_a_nested_code_is_written_once_for_each_size"),
            "--base": Elsewhere(FIT, "test_fit_takes_blocks_and_the_model_of_a_base"),
            "--name": Elsewhere(FIT, "test_fit_chooses_blocks_of_a_size"),
            "--version": Elsewhere(FIT, "test_fit_takes_blocks_and_the_model_of_a_base"),
            "--out": Elsewhere(FIT, "test_fit_takes_blocks_and_the_model_of_a_base"),
            "--replace": Elsewhere(FIT, "test_fit_chooses_blocks_of_a_size"),
        },
        beside=(
            Try("--data-dir {dir}", base="fit {rows} --bytes 4 --out {dir}/out", refused=UNUSED),
            Try("--config {file}", base="fit {rows} --bytes 4 --out {dir}/out", refused=UNUSED),
        ),
    ),
    "train": Command(
        TRAIN,
        options={
            "--bytes": Try("--bytes 2", refused="expected exactly one of --bytes, --code and --target-recall"),
            "--code": Elsewhere(BUNDLES, "test_embeddings_become_a_bundle_with_a_card_and_a_picture"),
            "--target-recall": Elsewhere(BUNDLES, "test_the_size_is_chosen_for_a_target"),
            "--nested": Elsewhere(BUNDLES, "test_a_nested_code_becomes_a_bundle_for_each_size"),
            "--preset": Try("--preset none", TRAIN, refused="expected one of"),
            "--steps": Try("--steps 3", TRAIN),
            "--pairs": Elsewhere(BUNDLES, "test_judged_pairs_are_learned_from"),
            "--model": Try("--model some", TRAIN, refused="--model"),
            "--base": Try("--base none@1", TRAIN, refused="none@1"),
            "--checkpoint": Try("--checkpoint {dir}/checkpoint", TRAIN),
            "--seed": Try("--seed 2", TRAIN),
            "--threads": Try("--threads -1", TRAIN, refused="-1 is not in the range"),
            "--name": Try("--name other", TRAIN),
            "--version": Try("--version 7", TRAIN),
            "--out": Try("--out {dir}/there", TRAIN),
            "--replace": Elsewhere(BUNDLES, "test_a_bundle_that_is_there_is_not_replaced_unasked"),
        },
        beside=(
            Try("--data-dir {dir}", base="train {rows} --code 8x2 --out {dir}/out " + QUICK, refused=UNUSED),
            Try("--config {file}", base="train {rows} --code 8x2 --out {dir}/out " + QUICK, refused=UNUSED),
        ),
    ),
    "train-adapter": Command(
        ADAPT,
        options={
            "--from": Elsewhere(ADAPTERS, "test_further_bundles_are_added_and_made_anew"),
            "--to": Elsewhere(ADAPTERS, "test_further_bundles_are_added_and_made_anew"),
            "--to-embeddings": Elsewhere(ADAPTERS, "test_further_bundles_are_added_and_made_anew"),
            "--pairs": Elsewhere(ADAPTERS, "test_judged_pairs_choose_the_adapter"),
            "--model": Elsewhere(ADAPTERS, "test_judged_pairs_choose_the_adapter"),
            "--to-model": Elsewhere(ADAPTERS, "test_judged_pairs_choose_the_adapter"),
            "--preset": Try("--preset none", ADAPT, refused="expected one of"),
            "--steps": Try("--steps 3", ADAPT),
            "--seed": Try("--seed 2", ADAPT),
            "--threads": Try("--threads -1", ADAPT, refused="-1 is not in the range"),
            "--name": Try("--name other", ADAPT),
            "--version": Try("--version 7", ADAPT),
            "--out": Try("--out {dir}/there", ADAPT),
            "--replace": Elsewhere(ADAPTERS, "test_further_bundles_are_added_and_made_anew"),
        },
        beside=(Try("--data-dir {dir}", base=f"{ADAPT.replace('--data-dir', '--out')}", refused=UNUSED),),
    ),
    "evaluate": Command(
        MEASURE,
        options={
            "--bundle": Try("--bundle {bundle} --data-dir {dir}", refused="{bundle}"),
            "--bytes": Try("--bytes 16"),
            "--fit": Elsewhere(
                "models/test_evaluate.py", "test_a_bundle_a_fitted_binarizer_and_baselines_in_one_table"
            ),
            "--rescore-bytes": Try("--rescore-bytes 8", refused="add --fit"),
            "--baselines": Try("--baselines sq4"),
            "--no-bound": Try("--no-bound"),
            "--queries": Try("--queries 10"),
            "--model": Try("--model some", refused="--model does not apply"),
            "--base": Try("--base none@1", refused="none@1"),
            "--cache": Try("--cache {dir}", refused="--base is missing"),
            "--threads": Try("--threads -1", refused="-1 is not in the range"),
            "--markdown": Try("--markdown {dir}/page.md"),
            "--plot": Try("--plot {dir}/figure.svg"),
        },
        shared={
            "--data-dir": Try("--data-dir {dir}", refused="--data-dir"),
            "--config": Try("--config none.toml -b {bundle}", refused="none.toml"),
        },
        beside=(Try("--data-dir {dir}", base=MEASURE + " --bundle {old_vectors}", refused=UNUSED),),
    ),
    "inspect": Command("inspect docs"),
    "backup": Command(
        "backup {dir}/file --data-dir {data}",
        options={
            "--skip-damaged": Elsewhere(
                "../store/backup/test_archive.py", "test_a_damaged_collection_stops_a_backup_unless_it_is_left_out"
            )
        },
    ),
    "restore": Command(
        "restore {backup} --data-dir {dir}",
        options={"--check": Try("--check")},
        beside=(
            Try(
                "--redis-url redis://127.0.0.1:9", base="restore {backup} --check", refused="--redis-url names a store"
            ),
        ),
    ),
    "verify": Command("verify --data-dir {data}"),
    "config": Command("config", options={"--markdown": Try("--markdown")}),
    "models list": Command("models list --data-dir {data}"),
    "models pull": Command(
        "models pull {checkpoint} --data-dir {dir}",
        options={
            **IMPORT,
            "--revision": Try("--revision main", refused="revision and endpoint apply to the hub only"),
            "--endpoint": Try("--endpoint http://127.0.0.1:9", refused="revision and endpoint apply to the hub only"),
        },
    ),
    "models import": Command("models import {checkpoint} --data-dir {dir}", options=IMPORT),
    "models verify": Command("models verify --data-dir {data}"),
    "collection fit": Command(
        "collection fit {new} --sample 150",
        ('collection create {new} --fit \'{{"bytes": 4, "dims": 24, "sample": 140}}\'',),
        options={
            **dict.fromkeys(("--bytes", "--rescore-bytes", "--sample", "--now", "--from", "--wait"), IN_A_FIT),
            "--cpu-seconds": Try("--cpu-seconds 7"),
        },
    ),
    "upgrade status": Command("upgrade status {new}", ATTACHED),
    "upgrade attach": Command("upgrade attach {new} new@1", (OLD,)),
    "upgrade evaluate": Command(
        "upgrade evaluate {new} new@1 --sample 5 --points 20",
        ATTACHED,
        options={
            "--queries": Elsewhere(UPGRADES, "test_the_gate_refuses_with_the_numbers"),
            "--sample": Elsewhere(UPGRADES, "test_step_by_step"),
            "--points": Elsewhere(UPGRADES, "test_step_by_step"),
            "--adapter": Try(
                "--adapter other", base="upgrade evaluate docs new@1", before=(), refused="expected one of"
            ),
            "--plot": Elsewhere(UPGRADES, "test_step_by_step"),
        },
    ),
    "upgrade promote": Command(
        "upgrade promote {new} new@1 --min-gain -1 --force",
        ATTACHED,
        options={
            "--min-gain": Elsewhere(UPGRADES, "test_step_by_step"),
            "--force": Elsewhere(UPGRADES, "test_the_gate_refuses_with_the_numbers"),
            "--adapter": Elsewhere(UPGRADES, "test_step_by_step"),
        },
    ),
    "upgrade rollback": Command("upgrade rollback {new}", PROMOTED),
    "upgrade backfill": Command(
        "upgrade backfill {new} --rate 0.1",
        PROMOTED,
        options={
            "--rate": Elsewhere(UPGRADES, "test_a_backfill_is_steered_by_the_name_of_its_collection"),
            "--wait": Elsewhere(UPGRADES, "test_step_by_step"),
        },
    ),
    "upgrade pause": Command("upgrade pause {new}", BACKFILLED),
    "upgrade resume": Command(
        "upgrade resume {new}",
        (*BACKFILLED, "upgrade pause {new}"),
        options={"--wait": Elsewhere(UPGRADES, "test_a_backfill_is_steered_by_the_name_of_its_collection")},
    ),
    "upgrade cancel": Command("upgrade cancel {new}", BACKFILLED),
    "upgrade retire": Command("upgrade retire {new} new@1", ATTACHED),
    "upgrade run": Command(
        "upgrade run {new} new@1 --yes --min-gain -1",
        (OLD,),
        options=dict.fromkeys(
            ("--queries", "--min-gain", "--backfill", "--yes"), Elsewhere(UPGRADES, "test_all_in_one_go")
        ),
    ),
    "export": Command("export docs {dir}/docs.ndjson"),
    "import": Command(
        "import {exported} -c {new}",
        options={"--collection": Try("--collection {new}-b"), "--aliases": Try("--aliases")},
    ),
    "copy": Command(
        "copy docs -c {new}",
        options={
            "--collection": Try("--collection {new}-b"),
            "--from": Try("--from {nowhere}", refused="cannot reach http://127.0.0.1:9"),
            "--to": Try("--to {nowhere}", refused="cannot reach http://127.0.0.1:9"),
            "--aliases": Elsewhere("points/test_transfer.py", "test_aliases_come_along_where_that_is_wanted"),
            "--to-api-key": Try("--to-api-key {key}", base="copy docs -c {new} --to {locked}", fails=True),
        },
        shared={"--api-key": Try("--api-key {key}", base="copy docs -c {new} --from {locked}", fails=True)},
        beside=(
            Try("--to-api-key {key}", base="copy docs -c {new} --to {dir}/store", refused="and --to is a store"),
            Try("--api-key {key}", base="copy docs --from {data} --to {dir}/store", refused="and --to are stores"),
        ),
    ),
    "collection create": Command(
        "collection create {new} --code 24x2",
        options={
            "--bundle": Try("--bundle old@1", base="collection create {new} --filterable lang=keyword"),
            "--code": Try("--code 32x2"),
            "--dims": Try("--dims 16", base="collection create {new} --filterable lang=keyword"),
            "--fit": Try('--fit \'{{"bytes": 4, "dims": 24}}\'', base="collection create {new} --shards 1"),
            "--shards": Try("--shards 3"),
            "--filterable": Try("--filterable lang=keyword"),
            "--text-field": Try("--text-field body", base="collection create {new} --bundle old@1"),
            "--recall": Try("--recall none"),
        },
    ),
    "collection list": Command("collection list"),
    "collection show": Command("collection show docs"),
    "collection set": Command(
        "collection set {new} --recall 0.9",
        (OLD,),
        options={"--recall": Try("--recall 0.8"), "--filterable": Try("--filterable lang=keyword")},
    ),
    "collection delete": Command(
        "collection delete {new} --yes", (OLD,), options={"--yes": Try("--yes", base="collection delete {new}")}
    ),
    "points get": Command("points get docs p1", options={"--with-code": Try("--with-code")}),
    "points scroll": Command(
        "points scroll docs",
        options={
            "--filter": Try("--filter lang=en"),
            "--show": Try("--show other"),
            "--limit": Try("--limit 3"),
        },
    ),
    "points count": Command("points count docs", options={"--filter": Try("--filter lang=en")}),
    "points delete": Command(
        "points delete {new} --filter lang=en --yes",
        (FILTERABLE,),
        options={
            "--filter": Try("--filter lang=en --yes", base="points delete {new}"),
            "--dry-run": Try("--dry-run"),
            "--yes": Try("--yes", base="points delete {new} --filter lang=en"),
        },
    ),
    "alias list": Command("alias list"),
    "alias set": Command("alias set {new}-alias docs"),
    "alias delete": Command("alias delete {new}-alias", ("alias set {new}-alias docs",)),
    "jobs list": Command("jobs list"),
    "jobs show": Command("jobs show {job}", options={"--errors": Try("--errors")}),
    "jobs wait": Command("jobs wait {job}"),
    "jobs cancel": Command("jobs cancel {job}"),
}
