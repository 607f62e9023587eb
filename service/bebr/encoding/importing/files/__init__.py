"""The files of models that other programs wrote, read strictly: what is not understood is refused by file and field.

json_file        JSON objects, each field of its type
tensors          model.safetensors
tokenizer_file   tokenizer.json, with the switches beside it
sentence_files   what sentence-transformers says: pooling, prompts, length, case
dense_files      its Dense layers
"""
