"""What is trained and measured on: collections, training rows, judged pairs, what is held out."""
