"""What the OpenAPI document promises, held against what comes over the wire."""

import json
import re
from typing import Any

import httpx
from jsonschema import Draft202012Validator

PROBLEM = "application/problem+json"


class Contract:
    """Checks answers; `seen` has the operations that succeeded so far."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.seen: set[str] = set()
        self._validators: dict[str, Draft202012Validator] = {}
        self._operations = [
            (re.compile(re.sub(r"{(id)}", r"(?P<\1>.+)", re.sub(r"{(?!id})\w+}", "[^/]+", path))), method, operation)
            for path, item in sorted(document["paths"].items(), key=lambda entry: "{id}" in entry[0])
            for method, operation in item.items()
        ]

    async def check(self, answer: httpx.Response) -> None:
        """Fails unless the status, the content type and every field of the answer are documented."""
        await answer.aread()
        operation = self._operation(answer.request)
        if operation is None:
            return
        where = f"{answer.request.method} {answer.request.url.path} -> {answer.status_code}"
        if answer.status_code in (404, 405) and str(answer.status_code) not in operation["responses"]:
            return
        response = operation["responses"].get(str(answer.status_code))
        assert response is not None, f"{where} is not documented: {answer.text:.300}"
        kind = answer.headers["content-type"].partition(";")[0]
        assert kind in response["content"], f"{where} has the content type {kind}"
        schema = response["content"][kind]["schema"]
        if "json" in kind:
            schema = schema.get("x-line-schema", schema)
            lines = answer.text.splitlines() if "ndjson" in kind else [answer.text]
            for line in lines:
                errors = [error.message for error in self._validator(schema).iter_errors(json.loads(line))]
                assert not errors, (where, errors, line[:500])
        if answer.is_success:
            self.seen.add(operation["operationId"])

    def _operation(self, request: httpx.Request) -> dict[str, Any] | None:
        for path, method, operation in self._operations:
            if method.upper() == request.method and path.fullmatch(request.url.path):
                return dict(operation)
        return None

    def _validator(self, schema: dict[str, Any]) -> Draft202012Validator:
        key = json.dumps(schema)
        if key not in self._validators:
            whole = {**schema, "components": self.document["components"]}
            self._validators[key] = Draft202012Validator(whole)
        return self._validators[key]
