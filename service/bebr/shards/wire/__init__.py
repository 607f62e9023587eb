"""The wire between gateways and leaves: calls over one connection, as frames of msgpack.

frames.py    the messages, and how they are cut out of a stream; limits on all that is read
addresses.py where a leaf listens: host and port, or the path of a socket
failures.py  errors as they cross, and why a leaf does not answer
client.py    WireClient: calls of one leaf, many at once over one connection
server.py    WireServer: answers calls by handlers that it is given

Nothing here knows who holds what. What comes from the other side is checked here: it is a value, or a WireError.
"""
