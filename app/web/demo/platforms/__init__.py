"""Stand-ins for the seven e-mail platforms, for the demo and for tests: one file each, written from the vendors' documents."""

from __future__ import annotations

from app.web.demo.platforms.braze import Braze
from app.web.demo.platforms.customerio import CustomerIo
from app.web.demo.platforms.hubspot import HubSpot
from app.web.demo.platforms.iterable import IterableCom
from app.web.demo.platforms.klaviyo import Klaviyo
from app.web.demo.platforms.mailchimp import Mailchimp
from app.web.demo.platforms.platform import Platform
from app.web.demo.platforms.sendgrid import SendGrid

#: By the kind that destinations have in the settings file.
PLATFORMS: dict[str, type[Platform]] = {
    platform.kind: platform for platform in (SendGrid, Mailchimp, HubSpot, Klaviyo, Braze, CustomerIo, IterableCom)
}
