"""Conditions as people write them, on products and on profiles: ``brand == "Acme" and price < 2000 and "red" in attributes.colour``.

The language is that of the library rule-engine (https://zeroSteiner.github.io/rule-engine/syntax.html) without its ``$`` functions, some
of which know the clock. The names are those of ``NAMES``, unless others are given. ``attributes.x`` is the list of a product's values of x,
empty where it has none; what is no letter, digit or _ in the name of an attribute is written _. Prices are in minor units; one that is not
known is null. A profile's ``attributes.x`` is one text, number or flag, null where it has none: app/domain/segment.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: Characters of an expression.
MAX_EXPRESSION_CHARS = 1_000
#: Each name and its type. ``attributes`` comes on top.
NAMES = {
    "product_id": "string",
    "title": "string",
    "brand": "string",
    "price": "number",
    "list_price": "number",
    "currency": "string",
    "categories": "strings",
}
_ATTRIBUTE = re.compile(r"attributes\s*\.\s*(\w+)")
_NOT_IN_A_NAME = re.compile(r"\W")


class WrongExpressionError(ValueError):
    """Says what is wrong with an expression and, where that is known, at which character, counted from 1."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A condition that was found to be well-formed."""

    text: str
    _rule: Any = field(repr=False, compare=False)
    _attributes: Sequence[str] = field(repr=False, compare=False)
    _have_many_values: bool = field(repr=False, compare=False)

    def holds(self, names: Mapping[str, Any], attributes: Mapping[str, Any]) -> bool | None:
        """Whether it holds for a product with these ``NAMES`` and attributes; None if it fails, as where null is compared with a number."""
        many = self._have_many_values
        known = {_NOT_IN_A_NAME.sub("_", name): tuple(v) if many else v for name, v in attributes.items()} if self._attributes else {}
        thing = {**names, "attributes": {name: known.get(name, () if many else None) for name in self._attributes}}
        try:
            return bool(self._rule.matches(thing))
        except Exception:  # whatever it is that the library raises: it does not raise its own errors only
            return None


def compile_expression(text: str, names: Mapping[str, str] = NAMES, *, attributes_have_many_values: bool = True) -> Expression:
    """A condition over ``names`` and their types (string, number, strings).

    Raises WrongExpressionError: it cannot be read, names what does not exist, or compares what cannot be compared.
    """
    # Imported where it is needed: it takes a second of CPU time, and most shops have no expression.
    from rule_engine import Context, DataType, Rule, builtins, errors, resolve_item, type_resolver_from_dict

    if len(text) > MAX_EXPRESSION_CHARS:
        raise WrongExpressionError(f"it has more than {MAX_EXPRESSION_CHARS} characters")
    strings = DataType.ARRAY(DataType.STRING)
    attributes = tuple(dict.fromkeys(_ATTRIBUTE.findall(text)))
    kind = strings if attributes_have_many_values else DataType.UNDEFINED
    shape = DataType.OBJECT("attributes", attributes=dict.fromkeys(attributes, kind), accessor=lambda values, name: values[name])
    types = {"string": DataType.STRING, "number": DataType.FLOAT, "strings": strings}
    known = {**{name: types[kind] for name, kind in names.items()}, "attributes": shape}
    context = Context(type_resolver=type_resolver_from_dict(known), resolver=resolve_item)
    context.builtins = builtins.Builtins({})
    try:
        rule = Rule(text, context=context)
    except errors.SymbolResolutionError as exc:
        allowed = ", ".join([*names, "attributes.x"])
        place = _place(text, exc.symbol_name)
        raise WrongExpressionError(f"unknown name {exc.symbol_name!r} at character {place}; there are {allowed}") from None
    except errors.RuleSyntaxError as exc:
        place = exc.token.lexpos + 1 if exc.token is not None else len(text) + 1
        raise WrongExpressionError(f"not understood at character {place}") from None
    except errors.RegexSyntaxError as exc:
        raise WrongExpressionError(f"{exc.message} at character {_place(text, exc.value)}") from None
    except (errors.EngineError, RecursionError) as exc:
        raise WrongExpressionError(str(exc) or type(exc).__name__) from None
    whole = rule.statement.expression
    if whole.result_type not in (DataType.BOOLEAN, DataType.UNDEFINED):
        raise WrongExpressionError("it must be a condition, which is true or false")
    for node in _nodes(whole):
        if getattr(node, "scope", None) is not None:
            raise WrongExpressionError(f"there are no $ functions: ${node.name} at character {_place(text, node.name) - 1}")
        sides = [getattr(node, side).result_type for side in ("left", "right") if hasattr(node, side)]
        if getattr(node, "type", "") in ("eq", "ne") and len(sides) == 2 and strings in sides and DataType.STRING in sides:
            raise WrongExpressionError('a list is compared with a text: write "text" in list')
    return Expression(text, rule, attributes, attributes_have_many_values)


def _place(text: str, part: str) -> int:
    found = re.search(rf"(?<!\w){re.escape(part)}(?!\w)", text)
    return (found.start() if found else max(0, text.find(part))) + 1


def _nodes(node: Any) -> Iterator[Any]:
    """The parts of an expression as the library read it: whatever nodes hang in the attributes of its nodes."""
    yield node
    slots = [slot for kind in type(node).__mro__ for slot in getattr(kind, "__slots__", ()) if hasattr(node, slot)]
    for held in [*getattr(node, "__dict__", {}).values(), *(getattr(node, slot) for slot in slots)]:
        for part in held if isinstance(held, list | tuple) else (held,):
            if hasattr(part, "result_type") and hasattr(part, "evaluate"):
                yield from _nodes(part)
