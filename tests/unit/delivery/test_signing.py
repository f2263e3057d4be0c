"""Signatures: the vectors of the reference, one id over all attempts, and rotations that no receiver notices."""

from __future__ import annotations

import base64
import time

import pytest
import standardwebhooks
import svix
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from app.delivery.signing import sign, signed_headers
from app.destinations import destination_of
from app.destinations.requests import Part, Request, SigningKey
from app.errors import SettingsError
from app.settings import Settings, load_settings

OLD, NEW = (f"whsec_{base64.b64encode(bytes([i]) * 32).decode()}" for i in (1, 2))
#: Svix's test vector: seed and public key.
PAIR = "6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
BODY = b'{"test": 2432232314}'


def settings_with(monkeypatch: pytest.MonkeyPatch, **secrets: str | list[str]) -> Settings:
    """A webhook whose secrets stand in the environment, as the settings file refers to them."""

    def reference(secret: str) -> str:
        name = f"SECRET_{abs(hash(secret))}"
        monkeypatch.setenv(name, secret)
        return f"env:{name}"

    given = {key: [reference(one) for one in value] if isinstance(value, list) else reference(value) for key, value in secrets.items()}
    return load_settings(overrides={"targets": [{"name": "inbox", "url": "https://shop.example/hook", **given}]})


def sent_by(settings: Settings) -> tuple[bytes, dict[str, str]]:
    """What leaves for a target of these settings."""
    request = destination_of(settings.targets[0]).request([Part("ann", 7, 1, BODY, "ann")])
    return request.body, dict(signed_headers(request, time.time_ns() // 1_000_000))


def is_verified_by(secret: str, body: bytes, headers: dict[str, str]) -> bool:
    """By both libraries, which must agree."""
    verdicts = set()
    for verifier, error in (
        (standardwebhooks.Webhook(secret), standardwebhooks.WebhookVerificationError),
        (svix.Webhook(secret), svix.webhooks.WebhookVerificationError),
    ):
        try:
            verifier.verify(body, headers)
            verdicts.add(True)
        except error:
            verdicts.add(False)
    assert len(verdicts) == 1
    return verdicts.pop()


def test_the_reference_vectors_are_reproduced() -> None:
    symmetric = SigningKey("v1", base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"))
    asymmetric = SigningKey("v1a", base64.b64decode(PAIR)[:32])
    signature = sign((asymmetric, symmetric), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, BODY)
    assert signature.split(" ") == [
        "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==",
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    ]


def test_each_attempt_is_signed_at_its_own_time_under_one_id() -> None:
    request = Request("POST", "https://example.com", {"webhook-id": "msg_1"}, b"{}", sign_with=(SigningKey("v1", b"k" * 24),))
    first, second = signed_headers(request, 1_700_000_000_999), signed_headers(request, 1_700_000_300_000)
    assert (first["webhook-timestamp"], second["webhook-timestamp"]) == ("1700000000", "1700000300")
    assert first["webhook-id"] == second["webhook-id"] == "msg_1"
    assert first["webhook-signature"] != second["webhook-signature"]


def test_a_request_without_a_key_is_sent_as_it_is() -> None:
    request = Request("POST", "https://example.com", {"a": "b"}, b"{}")
    assert signed_headers(request, 1) == {"a": "b"}


def test_a_rotation_never_leaves_a_receiver_without_a_signature_that_it_can_verify(monkeypatch: pytest.MonkeyPatch) -> None:
    # The sender's settings and, at each step, the secrets that some receiver still has or already has.
    for step, (secrets, receivers) in {
        "before": ([OLD], [OLD]),
        "both, the old one first": ([OLD, NEW], [OLD, NEW]),
        "both, the new one first": ([NEW, OLD], [OLD, NEW]),
        "after": ([NEW], [NEW]),
    }.items():
        body, headers = sent_by(settings_with(monkeypatch, secrets=secrets))
        for receiver in receivers:
            assert is_verified_by(receiver, body, headers), step
    assert not is_verified_by(OLD, body, headers), "the old secret is good for nothing any more"
    assert not is_verified_by(NEW, body + b" ", headers)


def test_an_asymmetric_signature_beside_the_symmetric_one_disturbs_no_receiver_and_verifies(monkeypatch: pytest.MonkeyPatch) -> None:
    private = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
    public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    for pair in (b"s" * 32, b"s" * 32 + public):
        body, headers = sent_by(settings_with(monkeypatch, secrets=[f"whsk_{base64.b64encode(pair).decode()}", OLD]))
        assert is_verified_by(OLD, body, headers)
        (encoded,) = [one.removeprefix("v1a,") for one in headers["webhook-signature"].split(" ") if one.startswith("v1a,")]
        content = b".".join((headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body))
        private.public_key().verify(base64.b64decode(encoded), content)  # raises if it is not


def test_one_secret_may_be_named_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings_with(monkeypatch, secret=OLD).targets == settings_with(monkeypatch, secrets=[OLD]).targets


@pytest.mark.parametrize(
    ("secrets", "complaint"),
    [
        ({"secrets": []}, "at least 1"),
        ({"secrets": [OLD] * 5}, "at most 4"),
        ({"secret": OLD, "secrets": [NEW]}, "not both"),
        ({"secrets": [OLD, "whsec_c2hvcnQ="]}, "24 to 64 bytes"),
        ({"secrets": ["whsk_c2hvcnQ="]}, "ed25519"),
        ({"secrets": ["whpk_" + base64.b64encode(b"p" * 32).decode()]}, "24 to 64 bytes"),
        ({"secrets": ["whsec_not base64 !"]}, "24 to 64 bytes"),
    ],
)
def test_secrets_that_cannot_sign_are_refused_without_being_shown(
    monkeypatch: pytest.MonkeyPatch, secrets: dict[str, str | list[str]], complaint: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        settings_with(monkeypatch, **secrets)
    assert complaint in str(refused.value)
    assert "c2hvcnQ" not in str(refused.value)
    assert OLD not in str(refused.value)
