"""A TypeScript program against the types made from the document: it compiles with --strict, and runs."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MODULES = HERE / "node_modules"
OPTIONS = {
    "strict": True,
    "exactOptionalPropertyTypes": True,
    "noUnusedLocals": True,
    "noEmitOnError": True,
    "skipLibCheck": True,
    "target": "es2022",
    "module": "nodenext",
    "lib": ["es2022", "dom"],
    "types": [],
    "outDir": "out",
}


def run(folder: Path, *command: object) -> str:
    done = subprocess.run([str(word) for word in command], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.skipif(not MODULES.is_dir(), reason="`make test` installs the packages of npm that this needs")
def test_compiles_and_runs(document: Path, url: str, tmp_path: Path) -> None:
    folder = tmp_path / "program"
    folder.mkdir()
    (folder / "node_modules").symlink_to(MODULES)
    for name in ("package.json", "client.ts"):
        shutil.copy(HERE / name, folder)
    (folder / "tsconfig.json").write_text(json.dumps({"compilerOptions": OPTIONS, "files": ["client.ts"]}))
    binaries = MODULES / ".bin"
    run(folder, "node", binaries / "openapi-typescript", document, "--output", "schema.ts")
    run(folder, "node", binaries / "tsc")
    assert run(folder, "node", "out/client.js", url) == "done\n"
