"""HTTP: the only importer of fastapi and pydantic.

    app                           routes, layers and document put together
    routes/                       by noun; each says in an `Operation` what it takes, returns and raises
    requests/, responses/         the shapes of bodies and answers, by noun
    middleware/                   the layers around every request: envelope, keys, compression
    bodies, frames, validation    bytes of a caller -> checked values; large_bodies: piece by piece
    paths                         line ends in paths
    access                        which routes only read
    problems                      errors -> RFC 9457, with the one table of statuses
    context                       what routes need from the app
    protocol, connection, rates   HTTP on the socket, and its limits; refusals: answers that need no app
    openapi, docs_page, metrics   what the service says about itself

`create_app` builds it around an engine; everything it needs is passed in.
"""

from fastapi import FastAPI

from bebr.server.app import ApiOptions, create_app
from bebr.server.connection import ConnectionLimits

__all__ = ["ApiOptions", "ConnectionLimits", "FastAPI", "create_app"]
