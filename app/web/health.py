"""Health: is the process alive, is it ready, what does it measure, and what can be asked."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from prometheus_client import generate_latest

from app.metrics import REGISTRY
from app.web.openapi import openapi_document
from app.web.owners import json_response
from app.web.views import Views


class Health:
    """The open routes."""

    def __init__(self, views: Views) -> None:
        self._views = views

    async def healthz(self, _: web.Request) -> web.StreamResponse:
        """200 while the worker can go on; that it answers at all shows that its event loop runs."""
        status = self._views.status()
        return json_response({"alive": status.alive, "reason": "alive" if status.alive else status.reason}, 200 if status.alive else 503)

    async def readyz(self, _: web.Request) -> web.StreamResponse:
        status = self._views.status()
        document: dict[str, Any] = {
            "ready": status.ready,
            "reason": status.reason,
            "recovering": status.recovering,
            "fenced": status.fenced,
            "active_partitions": list(status.active_partitions),
            "standby_partitions": list(status.standby_partitions),
            "lag": [{"topic": topic, "partition": p, "records": records} for (topic, p), records in sorted(status.lag.items())],
        }
        return json_response(document, 200 if status.ready else 503)

    async def metrics(self, _: web.Request) -> web.StreamResponse:
        return web.Response(body=generate_latest(REGISTRY), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def openapi(self, _: web.Request) -> web.StreamResponse:
        return json_response(openapi_document())

    async def index(self, _: web.Request) -> web.StreamResponse:
        """The routes, from the OpenAPI document."""
        routes = [
            {"method": method.upper(), "path": path, "summary": operation["summary"]}
            for path, operations in openapi_document()["paths"].items()
            for method, operation in operations.items()
        ]
        return json_response({"name": "tidings", "routes": routes})
