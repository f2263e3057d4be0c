"""The platforms' contracts, one OpenAPI document each beside the checkout: what of them a request breaks, and which operation it is."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from openapi_core import OpenAPI
from openapi_core.testing import MockRequest

from app.destinations.requests import Request

CONTRACTS = Path(__file__).parents[2] / ".." / "shared" / "contracts"


class Contract:
    """One platform's document. It is a subset: it may have no word on a path that the platform has."""

    def __init__(self, kind: str) -> None:
        document = yaml.safe_load((CONTRACTS / f"{kind}.yaml").read_text())
        self._openapi = OpenAPI.from_dict(document)
        (server,) = document["servers"]
        self._base = server["url"].rstrip("/")
        #: (method, path with placeholders) → operationId.
        self.operations = {
            (method.upper(), self._base + path): operation["operationId"]
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
            if method != "parameters"
        }
        #: Headers that the operations ask for; a validator fills one in that has a default, so whoever cares looks for it.
        self.headers = {
            parameter["name"].lower()
            for parameter in document.get("components", {}).get("parameters", {}).values()
            if parameter["in"] == "header" and parameter.get("required")
        }

    def operation_of(self, request: Request) -> str | None:
        """The request's operationId; None if the contract has no word on it."""
        parts = urlsplit(request.url).path.split("/")
        for (method, path), operation in self.operations.items():
            if method == request.method and _matches(path.split("/"), parts):
                return operation
        return None

    def breach(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> str | None:
        """What the request breaks, in words; None if it keeps to the contract. ``headers``: all that are sent, names in lower case."""
        parts = urlsplit(url)
        mock = MockRequest(
            "http://platform.example", method.lower(), parts.path,
            args={name: values[0] for name, values in parse_qs(parts.query).items()},
            headers={name.title(): value for name, value in headers.items()},
            data=body or None, content_type=headers.get("content-type", ""),
        )
        if missing := self.headers - headers.keys():
            return f"without the headers {sorted(missing)}"
        breaches = [f"{error!r} {error.__cause__!r}" for error in self._openapi.iter_request_errors(mock)]
        return "; ".join(breaches) or None

    def breach_of(self, request: Request) -> str | None:
        """The same, of a request as destinations make it."""
        return self.breach(request.method, request.url, {**request.headers, **request.secret_headers}, request.body)


def _matches(pattern: list[str], parts: list[str]) -> bool:
    return len(pattern) == len(parts) and all(want == got or want.startswith("{") for want, got in zip(pattern, parts, strict=True))


@cache
def contract_of(kind: str) -> Contract:
    """The contract of a kind of destination; skips the test where the contracts are not beside the checkout."""
    if not (CONTRACTS / f"{kind}.yaml").exists():
        pytest.skip(f"no {kind}.yaml in ../shared/contracts")
    return Contract(kind)
