"""The settings of each kind of destination: the ``[[targets]]`` sections."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from app.settings.section import SecretRef, Section

_NAME = r"^[a-z0-9-]{1,40}$"


def _check_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http or https URL")
    if parts.username or parts.password:
        raise ValueError("must not carry a user or password")
    return url


Url = Annotated[str, AfterValidator(_check_url)]


class _Target(Section):
    """What all kinds have."""

    name: str = Field(pattern=_NAME)
    timeout_seconds: float = Field(15, ge=0.1, le=60)
    #: Plain http is refused unless allowed here.
    allow_http: bool = False
    #: What was confirmed is sent again after so many days although nothing changed, to repair what changed over there. 0: never.
    refresh_days: int = Field(0, ge=0, le=365)

    def _addresses(self) -> list[str]:
        return [url for name in ("url", "base_url") if (url := getattr(self, name, None))]

    @model_validator(mode="after")
    def _is_encrypted(self) -> _Target:
        if not self.allow_http and any(url.startswith("http:") for url in self._addresses()):
            raise ValueError("url is plain http: use https, or set allow_http = true")
        return self


class WebhookSettings(_Target):
    """A webhook target: gets each changed list as a signed POST (Standard Webhooks)."""

    kind: Literal["webhook"] = "webhook"
    url: Url
    #: Each request is signed with all of them: ``whsec_`` and 24 to 64 bytes in base64 (HMAC, v1), or ``whsk_`` and a private ed25519 key
    #: in base64 (v1a). While one takes the place of another, both are here. ``secret`` is short for a list of one.
    secrets: list[SecretRef] = Field(min_length=1, max_length=4)
    #: Requests on the wire at once, from one worker.
    concurrency: int = Field(32, ge=1, le=256)

    @model_validator(mode="before")
    @classmethod
    def _one_secret(cls, given: Any) -> Any:
        if isinstance(given, dict) and "secret" in given:
            if "secrets" in given:
                raise ValueError("either secret or secrets, not both")
            given = {**given, "secrets": [given["secret"]]}
            del given["secret"]
        return given

    @field_validator("secrets")
    @classmethod
    def _are_signing_secrets(cls, secrets: list[SecretStr]) -> list[SecretStr]:
        for secret in secrets:
            prefix, _, encoded = secret.get_secret_value().rpartition("_")
            try:
                size = len(base64.b64decode(encoded, validate=True))
            except binascii.Error:
                size = 0
            if prefix == "whsk" and size not in (32, 64):
                raise ValueError("a private key must be whsk_ and the 32 bytes of an ed25519 seed (or seed and public key, 64) in base64")
            if prefix != "whsk" and (prefix not in ("whsec", "") or not 24 <= size <= 64):
                raise ValueError("must be whsec_ and 24 to 64 bytes in base64")
        return secrets


class _PlatformSettings(_Target):
    """What all e-mail platforms have."""

    #: The platform's own address unless given: for its other regions, and for tests.
    base_url: Url | None = None
    #: Recommendations that are written, best first; fewer if fewer fit.
    items: int = Field(5, ge=1, le=50)
    #: The beginning of the names of the fields that are written: recs, recs_version, recs_at; or rec_1_id, rec_1_title...
    field_prefix: str = Field("rec", pattern=r"^[a-z][a-z0-9_]{0,19}$")
    #: The attribute of the profile that holds the e-mail address.
    email_attribute: str = Field("email", min_length=1, max_length=64)
    #: By what the platform knows a person: Tidings' user id, or the e-mail address.
    identify_by: Literal["user_id", "email"] = "user_id"
    #: People in one request, below the platform's own limit.
    max_people: int | None = Field(None, ge=1)
    #: Requests a second over the fleet, below the platform's own limit.
    max_requests_per_second: float | None = Field(None, gt=0)


class SendGridSettings(_PlatformSettings):
    """Twilio SendGrid Marketing Campaigns: contacts with custom fields."""

    kind: Literal["sendgrid"]
    api_key: SecretRef
    items: int = Field(3, ge=1, le=20)
    identify_by: Literal["email"] = "email"
    #: The ids of our fields there, which ``tidings destinations setup`` prints: { rec_1_id = "e1_T", ... }
    field_ids: dict[str, str] = Field({})


class MailchimpSettings(_PlatformSettings):
    """Mailchimp Marketing: members of an audience with merge fields."""

    kind: Literal["mailchimp"]
    api_key: SecretRef
    #: The audience.
    list_id: str = Field(pattern=r"^[A-Za-z0-9]{1,40}$")
    #: What stands behind the dash of the API key: us6.
    data_center: str = Field(pattern=r"^[a-z]{2,4}[0-9]{1,4}$")
    #: Five fields each, of the 30 of an audience that begins with five of its own.
    items: int = Field(4, ge=1, le=9)
    #: A field's tag has ten characters: REC1_TITLE.
    field_prefix: str = Field("rec", pattern=r"^[a-z][a-z0-9]{0,2}$")
    identify_by: Literal["email"] = "email"


class HubSpotSettings(_PlatformSettings):
    """HubSpot: contacts with properties."""

    kind: Literal["hubspot"]
    access_token: SecretRef
    identify_by: Literal["email"] = "email"
    #: The group that ``tidings destinations setup`` makes properties in.
    property_group: str = Field("tidings", pattern=r"^[a-z][a-z0-9_]{0,40}$")


class KlaviyoSettings(_PlatformSettings):
    """Klaviyo: profiles with properties, through bulk import jobs."""

    kind: Literal["klaviyo"]
    api_key: SecretRef
    #: The API's revision, a date: stable for a year, then deprecated for one.
    revision: str = Field("2026-07-15", pattern=r"^20[0-9]{2}-[0-9]{2}-[0-9]{2}$")


class BrazeSettings(_PlatformSettings):
    """Braze: users with custom attributes."""

    kind: Literal["braze"]
    api_key: SecretRef
    #: The REST endpoint of the instance: https://rest.iad-01.braze.com
    base_url: Url


class CustomerIoSettings(_PlatformSettings):
    """Customer.io: people with attributes of at most 1,000 bytes each."""

    kind: Literal["customerio"]
    site_id: str = Field(min_length=1, max_length=100)
    api_key: SecretRef
    region: Literal["us", "eu"] = "us"


class IterableSettings(_PlatformSettings):
    """Iterable: users with data fields."""

    kind: Literal["iterable"]
    api_key: SecretRef
    region: Literal["us", "eu"] = "us"


PlatformSettings = (
    SendGridSettings | MailchimpSettings | HubSpotSettings | KlaviyoSettings | BrazeSettings | CustomerIoSettings | IterableSettings
)
TargetSettings = WebhookSettings | PlatformSettings
