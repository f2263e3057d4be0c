"""JSON read strictly: what is not plain JSON is refused in words, and numbers stay as they were written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any


@dataclass(frozen=True, slots=True)
class NotJson:
    """Why a text is no JSON."""

    detail: str


def parse_json(text: str) -> Any:
    """The value of a JSON text, or NotJson. Fractions are Decimal; a key that stands twice in one object, NaN and Infinity are refused."""
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as exc:
        return NotJson(f"{exc.msg} (line {exc.lineno}, column {exc.colno})")
    except RecursionError:
        return NotJson("it is nested too deeply")
    except _DuplicateKey as exc:
        return NotJson(f"the key {exc.key[:40]!a} stands twice in one object")
    except (ValueError, ArithmeticError) as exc:
        return NotJson(str(exc)[:200] if isinstance(exc, _NotANumber) else "it holds a number that is too long")


class _DuplicateKey(Exception):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


class _NotANumber(ValueError):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Which of two values is meant cannot be known, so neither is taken."""
    obj = dict(pairs)
    if len(obj) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _DuplicateKey(key)
            seen.add(key)
    return obj


def _refuse_constant(name: str) -> Any:
    raise _NotANumber(f"{name} is not a JSON value")


#: Decimal keeps prices as they were written; orjson would be faster, but keeps the last of two equal keys in silence.
_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_float=Decimal, parse_constant=_refuse_constant)
