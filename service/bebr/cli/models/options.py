"""Options that several of `fit`, `train`, `train-adapter` and `evaluate` share."""

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[
    Path, typer.Argument(help="Embeddings as .npy, .fvecs or .parquet, or texts as .jsonl[.gz] with a bundle.")
]
Bytes = Annotated[int | None, typer.Option("--bytes", min=1, help="Bytes per code; the layout is chosen by recall.")]
RescoreBytes = Annotated[
    int, typer.Option(min=0, help="Bytes per rescore code, a finer one on disk; 0: none. Twice --bytes is a good size.")
]
CpuSeconds = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="With --bytes: CPU seconds that the fit may take, about; 0: all that it takes.",
        show_default="60; 120 for 1,536 dims, 240 for 3,072",
    ),
]
Code = Annotated[str | None, typer.Option(help="The layout itself, such as 256x2 or 48x4+128x2+64x1.")]
TargetRecall = Annotated[
    float | None, typer.Option(help="Choose the smallest code that finds this share of the float top 10.")
]
Nested = Annotated[
    bool,
    typer.Option("--nested", help="With --code: its first blocks are a code too; a bundle is written for each."),
]
FittedName = Annotated[str | None, typer.Option("--name", help="Name of the bundle.", show_default="that of the file")]
FittedVersion = Annotated[str, typer.Option("--version", help="Version of the bundle.")]
Out = Annotated[
    Path | None, typer.Option("--out", help="Folder to write the bundle to.", show_default="BEBR_BUNDLES_DIR")
]
Replace = Annotated[bool, typer.Option("--replace", help="Replace a bundle of the same id.")]
Steps = Annotated[int | None, typer.Option(min=0, help="Training steps.", show_default="those of the preset")]
Pairs = Annotated[Path | None, typer.Option(help="Collection folder with relevance judgments (qrels.tsv).")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything that is random.")]
Threads = Annotated[int, typer.Option(min=0, help="Threads; 0: all cores.")]
