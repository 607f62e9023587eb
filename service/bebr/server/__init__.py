"""HTTP: the only importer of fastapi and pydantic.

    app            routes, layers and document put together
    search         the hot routes, as raw ASGI
    routes/        all other routes, by noun
    schemas        what requests look like; answers: what comes back
    bodies, frames, validation    bytes of a caller -> checked values
    problems       errors -> RFC 9457, with the one table of status codes
    envelope, keys, compression   the layers around every request
    metrics, openapi, docs_page   what the service says about itself

`create_app` puts it around an engine; everything it needs is handed in.
"""

from fastapi import FastAPI

from bebr.server.app import ApiOptions, create_app

__all__ = ["ApiOptions", "FastAPI", "create_app"]
