"""Training and evaluation of binarizers, beside the service: needs the extra [train].

The only importer of torch, faiss and matplotlib. May import bebr.core, bebr.encoding and bebr.errors; nothing
imports it but the commands `bebr train` and `bebr evaluate`, when they run. For evaluation:

    collections           what is measured on: a folder of embeddings or texts, with judgements
    coded                 documents in the codes of a binarizer, searched as the service does
    baselines, product, faiss_baselines, methods   other methods at equal bytes, and their table
    bound                 the Gaussian rate-distortion bound
    spectrum, ranking     principal axes shared by all; exhaustive search
    metrics               recall, nDCG, bootstrap intervals
    measuring, results, evaluate   one method on one collection; its row; all of them
    report, plot          tables, Markdown, figure
"""
