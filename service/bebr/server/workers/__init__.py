"""Several processes that answer on one port: one of them, the primary, does what only one may do.

    forwarding   a layer of the others: what they do not answer themselves goes to the primary
    primary      the primary as they reach it: connections to its Unix socket, and waiting while it is being replaced
    exchange     one request and its answer over such a connection, bodies streamed both ways
    inside       how the primary takes what was forwarded
    own          what such a worker answers itself
    accepting    connections of a listening socket that all of them share

Who starts and replaces them is `cli.server.workers`'s to know.
"""
