"""`bebr fit`: a binarizer for embeddings of your own."""


def fit() -> None:
    """Fit a binarizer to embeddings."""
