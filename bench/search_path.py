"""List the files of the service that a text search passes, from its route to its hits.

    python -m bench.search_path

One search by text among 50 points of one code version, on SQLite, the second of its kind, so that all is open. A file
counts when a function of it runs, in any thread. Layers around the routes and the writing of the answer do not count.
"""

import asyncio
import sys
import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

import httpx
from tests.client.running import tiny_text_bundle

import bebr
from bebr.bootstrap import build_app
from bebr.config import Settings

ROOT = f"{Path(bebr.__file__).parent}/"
AROUND = ("server/middleware/", "server/metrics.py", "server/responses/", "engine/cursors.py")
POINTS = [{"id": str(number), "text": f"the cat sat {number}"} for number in range(50)]


class Recorder:
    """Notes the functions that run while it is on."""

    def __init__(self) -> None:
        self.is_on = False
        self.functions: dict[str, list[str]] = {}

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        path = frame.f_code.co_filename
        if self.is_on and event == "call" and path.startswith(ROOT):
            path = path.removeprefix(ROOT)
            if not path.startswith(AROUND):
                names = self.functions.setdefault(path, [])
                if frame.f_code.co_qualname not in names:
                    names.append(frame.f_code.co_qualname)


async def search(folder: Path, recorder: Recorder) -> None:
    """Two searches over HTTP without a socket; the second is recorded."""
    bundle = tiny_text_bundle(folder / "bundles", folder / "checkpoint")
    app = build_app(Settings(data_dir=folder, bundles_dir=folder / "bundles", min_free_disk_bytes=0))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://bench") as http,
    ):
        while (await http.get("/readyz")).status_code != 200:
            await asyncio.sleep(0.01)
        (await http.put("/v1/collections/docs", json={"bundle": bundle.id})).raise_for_status()
        (await http.post("/v1/collections/docs/points", json={"points": POINTS})).raise_for_status()
        for recorder.is_on in (False, True):
            answer = await http.post("/v1/collections/docs/search", json={"text": "cat"})
            assert len(answer.raise_for_status().json()["hits"]) == 10
        recorder.is_on = False


def main() -> None:
    recorder = Recorder()
    threading.setprofile(recorder)
    sys.setprofile(recorder)
    with TemporaryDirectory() as folder:
        for name in ("bundles", "checkpoint"):
            (Path(folder) / name).mkdir()
        asyncio.run(search(Path(folder), recorder))
    sys.setprofile(None)
    for path, names in recorder.functions.items():
        print(f"{path:40} {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else ""))
    print(f"{len(recorder.functions)} files")


if __name__ == "__main__":
    main()
