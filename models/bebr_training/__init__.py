"""Training and evaluation of binarizers, beside the service: needs the extra [train].

The only importer of torch, faiss and matplotlib. May import bebr.core, bebr.encoding and bebr.errors; nothing imports
it but the commands `bebr train` and `bebr evaluate`, when they run.
"""
