"""Errors in the shape of OpenAI's API, on the routes that its clients call: they show nothing of a problem document."""

import re
from typing import Any

from bebr import errors
from bebr.errors import BebrError

MODELS_PATH, EMBEDDINGS_PATH = "/v1/models", "/v1/embeddings"
CODES: dict[type[BebrError], str] = {
    errors.BundleNotFound: "model_not_found",
    errors.Unauthorized: "invalid_api_key",
    errors.Overloaded: "rate_limit_exceeded",
}
"""Codes that its users look for; of other errors the code is the name."""
TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def is_for_openai(path: str) -> bool:
    """Whether the path is one that OpenAI's API has too."""
    return path in (EMBEDDINGS_PATH, MODELS_PATH) or path.startswith(f"{MODELS_PATH}/")


def openai_error(error: BebrError, status: int) -> dict[str, Any]:
    """The body of the answer."""
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    code = CODES.get(type(error)) or re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(error).__name__).lower()
    param = error.fields.get("key")
    named = param if isinstance(param, str) else None
    return {"error": {"message": error.detail, "type": kind, "param": named, "code": code}}
