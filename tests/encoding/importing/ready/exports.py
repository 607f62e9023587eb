"""Tiny models with random weights of many architectures, exported by torch, and what transformers makes of texts."""

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tests.encoding.importing.checkpoints import tiny_tokenizer, write_json
from tokenizers import Tokenizer

DIMS, VOCABULARY, PLACES = 32, 100, 64
_TINY = {
    "vocab_size": VOCABULARY,
    "hidden_size": DIMS,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": PLACES,
    "pad_token_id": 1,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
_DISTILBERT = {"vocab_size": VOCABULARY, "dim": DIMS, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
_LOCAL = {"cls_token_id": 2, "sep_token_id": 3, "local_attention": 8, "global_attn_every_n_layers": 2}
_PLAIN = ("input_ids", "attention_mask")
_TYPED = (*_PLAIN, "token_type_ids")
_PLACED = (*_PLAIN, "position_ids")


@dataclass(frozen=True)
class Architecture:
    """How a tiny model of one kind is made."""

    kind: str
    """Name of its classes in transformers."""
    inputs: tuple[str, ...] = _PLAIN
    config: tuple[tuple[str, Any], ...] = ()
    """What differs from the other kinds."""
    suffix: str = "Model"
    config_suffix: str = "Config"


ARCHITECTURES = {
    "bert": Architecture("Bert", _TYPED),
    "roberta": Architecture("Roberta"),
    "xlm-roberta": Architecture("XLMRoberta"),
    "mpnet": Architecture("MPNet"),
    "distilbert": Architecture("DistilBert"),
    "modernbert": Architecture("ModernBert", config=tuple(_LOCAL.items())),
    "nomic": Architecture("NomicBert", _TYPED),
    "albert": Architecture("Albert", _TYPED, (("embedding_size", 16),)),
    "electra": Architecture("Electra", _TYPED, (("embedding_size", 16),)),
    "deberta": Architecture("DebertaV2"),
    "qwen3": Architecture("Qwen3", _PLACED, (("num_key_value_heads", 2), ("head_dim", 8))),
    "clip": Architecture("CLIPText", config=(("projection_dim", 24),), suffix="ModelWithProjection"),
}
CHECKPOINTS = ("bert", "roberta", "xlm-roberta", "mpnet", "distilbert", "modernbert")
"""Those whose graph bebr builds from the weights."""


def make_model(name: str, **config: Any) -> Any:
    """A tiny model with random weights that matter."""
    architecture = ARCHITECTURES[name]
    config_kind = getattr(transformers, architecture.kind + architecture.config_suffix)
    stated = _DISTILBERT | {"max_position_embeddings": PLACES} if name == "distilbert" else _TINY
    torch.manual_seed(0)
    model = getattr(transformers, architecture.kind + architecture.suffix)(
        config_kind(**{**stated, **dict(architecture.config), **config})
    )
    for parameter in model.parameters():
        noise = torch.randn_like(parameter)
        parameter.data = noise * 0.3 if parameter.dim() > 1 else parameter.data + noise * 0.1
    return model.eval()


class Exported(torch.nn.Module):
    """A model with the inputs and outputs of a graph, by place."""

    def __init__(self, model: Any, inputs: Sequence[str], output: Callable[[Any], Any]) -> None:
        super().__init__()
        self.model, self.inputs, self.output = model, inputs, output

    def forward(self, *values: torch.Tensor) -> Any:
        cached = {"use_cache": False} if "position_ids" in self.inputs else {}
        return self.output(self.model(**dict(zip(self.inputs, values, strict=True)), **cached))


def last_hidden_state(answer: Any) -> Any:
    return answer.last_hidden_state


def text_embeds(answer: Any) -> Any:
    return answer.text_embeds


def export(
    model: Any,
    path: Path,
    inputs: Sequence[str],
    output: Callable[[Any], Any] = last_hidden_state,
    names: Sequence[str] = ("last_hidden_state",),
    ranks: Sequence[int] = (3,),
    input_names: Sequence[str] | None = None,
) -> None:
    """Write the graph of a model, as optimum names its inputs and outputs."""
    given = list(input_names or inputs)
    ids = torch.tensor([[2, 5, 9, 7, 3], [2, 6, 3, 1, 1]])
    mask = (ids != 1).long()
    values = {
        "input_ids": ids,
        "attention_mask": mask,
        "token_type_ids": torch.zeros_like(ids),
        "position_ids": torch.arange(5)[None].repeat(2, 1),
    }
    axes = {name: {0: "batch", 1: "tokens"} for name in given}
    for name, rank in zip(names, ranks, strict=True):
        axes[name] = {0: "batch", 1: "tokens"} if rank == 3 else {0: "batch"}
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter, about what it traces
        torch.onnx.export(
            Exported(model, inputs, output).eval(),
            tuple(values[name] for name in inputs),
            str(path),
            input_names=given,
            output_names=list(names),
            dynamic_axes=axes,
            dynamo=False,
            opset_version=17,
        )


def write_folder(folder: Path, model: Any, name: str, file: str = "onnx/model.onnx", **said: Any) -> Path:
    """A repository with a ready graph: that, config.json, tokenizer.json. said: content of further JSON files."""
    is_clip = name == "clip"
    export(
        model,
        folder / file,
        ARCHITECTURES[name].inputs,
        text_embeds if is_clip else last_hidden_state,
        ("text_embeds",) if is_clip else ("last_hidden_state",),
        (2,) if is_clip else (3,),
    )
    write_json(folder / "config.json", json.loads(model.config.to_json_string(use_diff=False)))
    tiny_tokenizer().save(str(folder / "tokenizer.json"))
    for place, content in said.items():
        write_json(folder / place, content)
    return folder


def token_rows(texts: Sequence[str]) -> list[list[int]]:
    tokenizer: Tokenizer = tiny_tokenizer()
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return [tokenizer.encode(text).ids for text in texts]


def reference(model: Any, texts: Sequence[str], pooling: str = "mean") -> np.ndarray:
    """Embeddings (texts, dims) of transformers itself: each text alone, without padding."""
    rows = []
    for ids in token_rows(texts):
        with torch.no_grad():
            answer = model(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long))
        if hasattr(answer, "text_embeds"):
            rows.append(answer.text_embeds[0].numpy())
        else:
            rows.append(pooled(answer.last_hidden_state[0].numpy(), pooling))
    return unit(np.array(rows))


def pooled(hidden: np.ndarray, pooling: str) -> np.ndarray:
    """hidden (tokens, dims) -> (dims,)."""
    places = np.arange(1, len(hidden) + 1)[:, None]
    return {
        "mean": hidden.mean(0),
        "cls": hidden[0],
        "max": hidden.max(0),
        "last": hidden[-1],
        "weighted-mean": (hidden * places).sum(0),
    }[pooling]


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
