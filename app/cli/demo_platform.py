"""A platform's stand-in in the demo's worker: its settings section, and its fields as ``tidings destinations setup`` makes them."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import orjson
from pydantic import SecretStr

from app.destinations import HasFields, destination_of
from app.destinations.requests import Request, Response
from app.settings import (
    BrazeSettings,
    CustomerIoSettings,
    HubSpotSettings,
    IterableSettings,
    KlaviyoSettings,
    MailchimpSettings,
    SendGridSettings,
)
from app.web.demo.platforms import Platform
from app.web.demo.platforms.platform import Call

_SETTINGS: Mapping[str, Callable[..., Any]] = {
    "sendgrid": SendGridSettings,
    "mailchimp": MailchimpSettings,
    "hubspot": HubSpotSettings,
    "klaviyo": KlaviyoSettings,
    "braze": BrazeSettings,
    "customerio": CustomerIoSettings,
    "iterable": IterableSettings,
}
#: What a section must say beside its key.
_MORE: Mapping[str, Mapping[str, Any]] = {
    "mailchimp": {"list_id": "demo", "data_center": "us6"},
    "customerio": {"site_id": "demo-site"},
}


def platform_target(platform: Platform, url: str, key_variable: str) -> dict[str, Any]:
    """The ``[[targets]]`` section of a platform at this address, whose key is in that variable. Makes the fields that must be there."""
    kind = platform.kind
    key_name = "access_token" if kind == "hubspot" else "api_key"
    section = {"name": f"demo-{kind}", "kind": kind, "base_url": url, "allow_http": True, **_MORE.get(kind, {})}
    destination = destination_of(_SETTINGS[kind](**section, **{key_name: SecretStr(platform.key)}))
    if isinstance(destination, HasFields):
        for field in destination.fields():
            _ask(platform, destination.create_field(field))
        section |= tomllib.loads(destination.settings_hint(_ask(platform, destination.fields_request())))
    return section | {key_name: f"env:{key_variable}"}


def _ask(platform: Platform, request: Request) -> Response:
    """Within this process: nobody needs to listen for it."""
    answer = platform.answer(call_of(request))
    return Response(answer.status, {}, orjson.dumps(answer.document), 0)


def call_of(request: Request) -> Call:
    """A destination's request as a platform sees it."""
    url = urlsplit(request.url)
    headers = {name.lower(): value for name, value in {**request.headers, **request.secret_headers}.items()}
    return Call(request.method, url.path, dict(parse_qsl(url.query)), headers, request.body)
