"""Tiny checkpoints with random weights, and a forward pass in plain numpy to check graphs against.

The reference is written from the published architecture (BERT, arXiv:1810.04805) and shares no code with bebr: it
computes in float64, one text at a time, without padding.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

DIMS, LAYERS, HEADS, WIDENED, POSITIONS = 32, 2, 4, 64, 40
TEXT = "the a quick brown fox jumps over lazy dog parse date time string codes of binary search ##s ##ing ##ed un"
WORDS = TEXT.split()


def write_checkpoint(
    folder: Path, *, family: str = "bert", pooling: str = "mean", seed: int = 0, **config: Any
) -> Path:
    """Write a checkpoint folder of one family ("bert", "roberta" or "distilbert") as sentence-transformers saves it."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tiny_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    vocabulary = tokenizer.get_vocab_size()
    save_file(tiny_weights(family, vocabulary, seed), folder / "model.safetensors")
    write_json(folder / "config.json", {**tiny_config(family, vocabulary), **config})
    kinds = ("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")
    modules = [
        {"idx": i, "path": path, "type": f"sentence_transformers.models.{kind}"} for i, (kind, path) in enumerate(kinds)
    ]
    write_json(folder / "modules.json", modules)
    (folder / "1_Pooling").mkdir(exist_ok=True)
    modes = {f"pooling_mode_{mode}": mode.startswith(pooling) for mode in ("cls_token", "mean_tokens", "max_tokens")}
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": DIMS, **modes})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 24, "do_lower_case": False})
    return folder


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value))


def tiny_tokenizer() -> Tokenizer:
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    vocabulary = {
        word: i for i, word in enumerate(dict.fromkeys(specials + WORDS + letters + ["##" + c for c in letters]))
    }
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    # As found in the wild: what it was last used with is stored in it.
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=8)
    return tokenizer


def tiny_config(family: str, vocabulary: int) -> dict[str, Any]:
    if family == "distilbert":
        sizes = {"dim": DIMS, "n_layers": LAYERS, "n_heads": HEADS, "hidden_dim": WIDENED, "activation": "gelu"}
    else:
        sizes = {"hidden_size": DIMS, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
        sizes |= {"intermediate_size": WIDENED, "hidden_act": "gelu", "layer_norm_eps": 1e-6, "type_vocab_size": 2}
    return {
        "model_type": family,
        "vocab_size": vocabulary,
        "max_position_embeddings": POSITIONS,
        "pad_token_id": 1,
        **sizes,
    }


def names(family: str) -> dict[str, str]:
    """Our name of a layer's tensor -> the family's."""
    if family == "distilbert":
        return {
            "query": "attention.q_lin", "key": "attention.k_lin", "value": "attention.v_lin",
            "out": "attention.out_lin", "norm1": "sa_layer_norm", "up": "ffn.lin1",
            "down": "ffn.lin2", "norm2": "output_layer_norm",
        }  # fmt: skip
    return {
        "query": "attention.self.query", "key": "attention.self.key", "value": "attention.self.value",
        "out": "attention.output.dense", "norm1": "attention.output.LayerNorm", "up": "intermediate.dense",
        "down": "output.dense", "norm2": "output.LayerNorm",
    }  # fmt: skip


def layer_prefix(family: str, layer: int) -> str:
    return f"transformer.layer.{layer}." if family == "distilbert" else f"encoder.layer.{layer}."


def tiny_weights(family: str, vocabulary: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)

    def random(*shape: int, around: float = 0.0, scale: float = 0.3) -> np.ndarray:
        return (around + scale * rng.standard_normal(shape)).astype(np.float32)

    weights = {
        "embeddings.word_embeddings.weight": random(vocabulary, DIMS),
        "embeddings.position_embeddings.weight": random(POSITIONS, DIMS),
        "embeddings.LayerNorm.weight": random(DIMS, around=1),
        "embeddings.LayerNorm.bias": random(DIMS),
    }
    if family != "distilbert":
        weights["embeddings.token_type_embeddings.weight"] = random(2, DIMS)
    for layer in range(LAYERS):
        for ours, theirs in names(family).items():
            prefix = layer_prefix(family, layer) + theirs
            outputs, inputs = {"up": (WIDENED, DIMS), "down": (DIMS, WIDENED)}.get(ours, (DIMS, DIMS))
            is_norm = ours.startswith("norm")
            weights[f"{prefix}.weight"] = random(DIMS, around=1) if is_norm else random(outputs, inputs)
            weights[f"{prefix}.bias"] = random(outputs if not is_norm else DIMS)
    return weights


def reference_embedding(
    ids: list[int], weights: dict[str, np.ndarray], config: dict[str, Any], pooling: str = "mean"
) -> np.ndarray:
    """Token ids of one text -> its unit embedding (dims,) float64."""
    family = config["model_type"]
    heads = config.get("num_attention_heads", config.get("n_heads"))
    layers = config.get("num_hidden_layers", config.get("n_layers"))
    epsilon = config.get("layer_norm_eps", 1e-12)
    tensor = {name: array.astype(np.float64) for name, array in weights.items() if array.dtype.kind == "f"}

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ tensor[f"{name}.weight"].T + tensor[f"{name}.bias"]

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centered = x - x.mean(-1, keepdims=True)
        spread = np.sqrt((centered**2).mean(-1, keepdims=True) + epsilon)
        return centered / spread * tensor[f"{name}.weight"] + tensor[f"{name}.bias"]

    first = config.get("pad_token_id", 1) + 1 if family == "roberta" else 0
    x = tensor["embeddings.word_embeddings.weight"][ids]
    x = x + tensor["embeddings.position_embeddings.weight"][first : first + len(ids)]
    if family != "distilbert":
        x = x + tensor["embeddings.token_type_embeddings.weight"][0]
    x = norm(x, "embeddings.LayerNorm")
    for layer in range(layers):
        at = {ours: layer_prefix(family, layer) + theirs for ours, theirs in names(family).items()}
        queries, keys, values = (
            np.stack(np.split(linear(x, at[part]), heads, axis=-1)) for part in ("query", "key", "value")
        )
        scores = queries @ keys.transpose(0, 2, 1) / math.sqrt(queries.shape[-1])
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        x = norm(x + linear(np.concatenate(shares @ values, axis=-1), at["out"]), at["norm1"])
        widened = linear(x, at["up"])
        widened = widened * 0.5 * (1 + np.vectorize(math.erf)(widened / math.sqrt(2)))
        x = norm(x + linear(widened, at["down"]), at["norm2"])
    pooled = x[0] if pooling == "cls" else x.mean(0)
    return pooled / np.linalg.norm(pooled)
