"""HTTP: the only importer of fastapi and pydantic.

    app                 routes, layers and document put together
    routes/             by noun; each says in an `Operation` what it takes, returns and raises
    requests/           the shapes of bodies, by noun
    responses/          the shapes of answers, by noun
    middleware/         the layers around every request: envelope, keys, compression
    bodies/             bytes of a caller -> checked values
    workers/, team/     several processes on one port, and what they know of each other
    connections/        HTTP on the socket: limits, and what is answered there
    context             what routes need from the app
    access              which routes only read
    problems, openai    errors -> RFC 9457, with the one table of statuses; errors for OpenAI's clients
    validation, paths   what is wrong with a value, in words; line ends in paths
    openapi, schemas, pages, metrics, loop_watch   what the service says about itself

`create_app` builds it around an engine; everything it needs is passed in.
"""

from fastapi import FastAPI

from bebr.server.app import ApiOptions, create_app
from bebr.server.connections.connection import ConnectionLimits
from bebr.server.team.team import Team
from bebr.server.workers.primary import Primary

__all__ = ["ApiOptions", "ConnectionLimits", "FastAPI", "Primary", "Team", "create_app"]
