"""What the schemas of the OpenAPI document are made of."""

from __future__ import annotations

from typing import Any


def text(max_bytes: int, description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": f"{description} At most {max_bytes} bytes of UTF-8.", **more}


def closed(properties: dict[str, Any], required: list[str] | None = None, **more: Any) -> dict[str, Any]:
    """Closed, and everything required, unless said otherwise."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
        "additionalProperties": False,
        **more,
    }


def array(items: dict[str, Any], description: str = "") -> dict[str, Any]:
    return {"type": "array", "items": items, **({"description": description} if description else {})}


def ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


COUNT = {"type": "integer", "minimum": 0}
TIME = {"type": ["string", "null"], "format": "date-time", "examples": ["2024-04-27T14:35:22.000Z"]}
ID = {"type": "string"}
SCALAR = {"type": ["string", "number", "boolean", "null"]}
SHOWN_MONEY = {
    "oneOf": [closed({"minor_units": COUNT, "currency_code": {"type": ["string", "null"]}}), {"type": "null"}],
    "description": "In minor units; the code is null for the shop's own currency.",
}
