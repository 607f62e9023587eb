"""Training and evaluation of binarizers, beside the service: needs the extra [train].

The only importer of torch, faiss and matplotlib. May import bebr.core, bebr.encoding and bebr.errors; nothing
imports it but the commands `bebr train`, `bebr evaluate` and `bebr upgrade`, when they run. Its rooms, each of which
imports only those above it:

    search        exhaustive search in numpy: rankings, documents as codes, neighbors, metrics with intervals
    data          collections with embeddings or texts, training rows, relevance judgments, held-out rows
    baselines     other methods at equal bytes, the table of them, and the rate-distortion bound
    evaluation    one method on one collection; its row of results; all of them
    binarizer     the trainer: models, objectives, presets, checkpoints, and the check of an exported graph
    adapters      maps from one model to another, their graph, and the trainer of both directions
    reports       tables, Markdown, figures, model cards
"""
