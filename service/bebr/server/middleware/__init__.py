"""The layers around every route: request ids and metrics, keys, compression."""
