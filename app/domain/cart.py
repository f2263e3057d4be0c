"""The cart of a profile: lines in the order they were first added, changed by adding, removing and ordering."""

from __future__ import annotations

from tidings.events.v1.event_pb2 import AddedToCart, RemovedFromCart
from tidings.state.v1.profile_pb2 import Profile

#: Past it, the line added first is dropped.
MAX_CART_LINES = 100
#: A line's quantity stays at it, however often the product is added.
MAX_LINE_QUANTITY = 10_000


def add_to_cart(profile: Profile, added: AddedToCart, product_id: str, at_ms: int) -> None:
    """Raise the product's line by the quantity (0 means 1), or open one. The last price said stays."""
    quantity = added.quantity or 1
    cart = profile.cart
    for line in cart:
        if line.product_id == product_id:
            line.quantity = min(line.quantity + quantity, MAX_LINE_QUANTITY)
            break
    else:
        line = cart.add(product_id=product_id, quantity=min(quantity, MAX_LINE_QUANTITY), added_at_ms=at_ms)
    if added.HasField("unit_price"):
        line.unit_price.CopyFrom(added.unit_price)
    if len(cart) > MAX_CART_LINES:
        del cart[: len(cart) - MAX_CART_LINES]


def remove_from_cart(profile: Profile, removed: RemovedFromCart, at_ms: int) -> None:
    """Lower the product's line by the quantity (0 means all of it), unless the line was added later than that."""
    cart, product_id = profile.cart, removed.product_id
    for place, line in enumerate(cart):
        if line.product_id == product_id and line.added_at_ms <= at_ms:
            if removed.quantity == 0 or removed.quantity >= line.quantity:
                del cart[place]
            else:
                line.quantity -= removed.quantity
            return


def clear_ordered(profile: Profile, product_ids: list[str], at_ms: int) -> None:
    """Take the ordered products' lines out of the cart, whatever their quantity, unless they were added later than the order."""
    cart = profile.cart
    if not cart:
        return
    ordered = set(product_ids)
    for place in range(len(cart) - 1, -1, -1):
        line = cart[place]
        if line.product_id in ordered and line.added_at_ms <= at_ms:
            del cart[place]
