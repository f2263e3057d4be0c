"""Why Kafka does not let us in: asks each address once, step by step, and says which setting to look at.

The client itself says only that it found no broker. Nothing here repeats a password, or what a broker sent.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from aiokafka.conn import AIOKafkaConnection, collect_hosts
from aiokafka.errors import (
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from app.streams.kafka_client import TokenError

#: Of one address. It was just asked by the client, and did not hang then.
_ASK_SECONDS = 5
#: A list of addresses is a few; the first that says something is enough.
_MAX_ADDRESSES = 3


async def why_refused(client: Mapping[str, Any]) -> str:
    """What is wrong, in words that name the setting; empty when a broker lets us in now. ``client`` is of kafka_client.py."""
    said = ""
    for host, port, _ in collect_hosts(client["bootstrap_servers"], randomize=False)[:_MAX_ADDRESSES]:
        words = await _ask(client, host, port)
        if words is None:
            return ""
        said = said or words
    return said


async def _ask(client: Mapping[str, Any], host: str, port: int) -> str | None:
    at = f"Kafka at {host}:{port}"
    arguments = {name: value for name, value in client.items() if name != "bootstrap_servers"}
    connection = AIOKafkaConnection(host, port, **{**arguments, "request_timeout_ms": _ASK_SECONDS * 1000})
    try:
        async with asyncio.timeout(2 * _ASK_SECONDS):
            await connection.connect()
            answer = await connection.send(MetadataRequest([]))
        if not answer.brokers:
            # It refused a token in an answer that the client takes for a yes, and this is how it says that more was to come of the login.
            raise SaslAuthenticationFailed
        return None
    except Exception as exc:
        return await _in_words(exc, client, host, port, at)
    finally:
        connection.close()


async def _in_words(exc: Exception, client: Mapping[str, Any], host: str, port: int, at: str) -> str:
    protocol: str = client.get("security_protocol", "PLAINTEXT")
    match exc:
        case TokenError():
            return f"{at} wants a token, and {exc.args[0]}"
        case SaslAuthenticationFailed() if client.get("sasl_mechanism") == "OAUTHBEARER":
            return f"{at} refuses the token: look at kafka.sasl_token_url, kafka.sasl_client_id and kafka.sasl_scope"
        case ssl.SSLCertVerificationError():
            return f"{at} shows a certificate that does not hold ({exc.verify_message}): look at kafka.ca_file and kafka.bootstrap_servers"
        case ssl.SSLError() if "CERTIFICATE" in (exc.reason or "").upper():
            return f"{at} does not take this client's certificate ({exc.reason}): look at kafka.cert_file and kafka.key_file"
        case ssl.SSLError():
            return f"{at} does not speak TLS ({exc.reason or 'no handshake'}), and kafka.security_protocol is {protocol}"
        case SaslAuthenticationFailed():
            return f"{at} refuses the login: look at kafka.sasl_username and kafka.sasl_password ({client.get('sasl_mechanism')})"
        case UnsupportedSaslMechanismError():
            return f"{at} does not offer {client.get('sasl_mechanism')}: kafka.sasl_mechanism must be one that it does"
        case IllegalSaslStateError():
            return f"{at} asks for no login, and kafka.security_protocol is {protocol}"
        case TimeoutError():
            return f"{at} took the connection and did not answer: is it running, and is kafka.security_protocol ({protocol}) right?"
        case KafkaConnectionError() if protocol.endswith("PLAINTEXT") and await _speaks_tls(host, port):
            return f"{at} speaks TLS, and kafka.security_protocol is {protocol}: {protocol.replace('PLAINTEXT', 'SSL')} does"
        case KafkaConnectionError():
            return f"{at} hung up: does it want a login (kafka.sasl_username; kafka.security_protocol is {protocol}) or kafka.cert_file?"
        case ConnectionResetError() | ConnectionAbortedError() if client.get("ssl_context"):
            return f"{at} does not speak TLS, and kafka.security_protocol is {protocol}"
        case OSError():
            return f"{at} cannot be reached ({exc.strerror or type(exc).__name__}): is it running, and is kafka.bootstrap_servers right?"
        case KafkaError():
            return f"{at} refuses ({type(exc).__name__})"
        case _:
            return f"{at} answers what Kafka would not ({type(exc).__name__}): is kafka.bootstrap_servers right?"


async def _speaks_tls(host: str, port: int) -> bool:
    """Whatever certificate it has: nothing is sent to it."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(_ASK_SECONDS):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except (OSError, TimeoutError):  # an SSLError is an OSError
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True
