"""A Dense module of sentence-transformers: its config.json and its model.safetensors."""

from pathlib import Path

import numpy as np

from bebr.encoding.importing.files.json_file import existing, read_json_file
from bebr.encoding.importing.files.tensors import Tensors
from bebr.encoding.importing.head import Activation, Dense
from bebr.errors import InvalidCheckpoint


def read_dense(folder: Path, path: str) -> Dense:
    """The Dense layer in a folder of the checkpoint. Raises InvalidCheckpoint naming file and field."""
    if not path or not (folder / path / "config.json").is_file():
        raise InvalidCheckpoint(f"modules.json: the Dense module {path!r} has no config.json", file="modules.json")
    config = read_json_file(folder, f"{path}/config.json")
    name = config.text("activation_function").rpartition(".")[2]
    if name not in set(Activation):
        raise config.wrong("activation_function", f"must be one of {', '.join(Activation)}")
    inputs, outputs = config.count("in_features"), config.count("out_features")
    config.refuse_unless(module_input_name="sentence_embedding", module_output_name="sentence_embedding")
    tensors = Tensors(existing(folder, f"{path}/model.safetensors"))
    weight = np.ascontiguousarray(tensors.take("linear.weight", outputs, inputs).T)
    bias = None if config.flag("bias") is False else tensors.take("linear.bias", outputs)
    return Dense(weight, bias, Activation(name))
