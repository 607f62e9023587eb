"""The trainer of a binarizer: from rows and a fitted start to the files of a bundle."""
