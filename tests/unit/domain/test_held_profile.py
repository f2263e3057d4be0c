"""A profile in its table's hands: folded from bytes to bytes, it is what the fold of the message makes of it, byte for byte."""

from __future__ import annotations

import gc
import sys
from hashlib import blake2b
from random import Random

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings

from app.domain.held_profile import COMPILED, MAX_MESSAGES, HeldProfile, RecentMessages, message_of
from app.domain.profile import Applied, Denied, Duplicate, Interaction, fold_event, new_profile
from app.domain.validation import Violation, decode_event
from tests.unit.domain.event_worlds import MINUTE_MS, NOON_MS, PAYLOADS, added, changed, consent, event, histories, ordered, viewed
from tidings.events.v1.event_pb2 import Event, FieldChange
from tidings.state.v1.profile_pb2 import Profile

compiled = pytest.mark.skipif(COMPILED is None, reason="not compiled: no C compiler at installation, or not installed since")


class Pair:
    """One person twice: held, and as the message that the fold changes."""

    def __init__(self, user_id: str = "ada") -> None:
        self.key = user_id.encode()
        self.held, self.plain = HeldProfile.new(self.key), new_profile(user_id)
        self.left = 0

    def apply(self, value: bytes, received_at_ms: int = 0, key: bytes | None = None):
        """Both say the same, and hold the same bytes. Counts what the compiled one left to Python."""
        key = self.key if key is None else key
        before = self.held.encode()
        if COMPILED is not None:
            self.left += COMPILED.fold(before, value, key, received_at_ms, Interaction) is None
        outcome = self.held.apply(value, key, received_at_ms)
        one = decode_event(value, key, received_at_ms)
        expected = one if isinstance(one, Violation) else fold_event(self.plain, one)
        assert outcome == expected
        assert type(outcome) is type(expected)
        if isinstance(outcome, Applied):
            assert all(type(interaction) is Interaction for interaction in outcome.interactions)
        assert self.held.encode() == self.plain.SerializeToString()
        assert self.held.message() == self.plain
        return outcome

    def fold(self, *events: Event) -> None:
        for one in events:
            self.apply(one.SerializeToString())


@settings(max_examples=60, deadline=None)
@given(histories())
def test_it_is_what_the_fold_of_the_message_makes_of_it(events):
    pair = Pair()
    pair.fold(*events)
    pair.fold(*events[-3:])


#: Of one, two, three and four bytes, where their numbers begin and end; control characters are at the end.
CHARACTERS = " a~\xa0\xe9\u07ff\u0800\ud7ff\ue000\ufffd\uffff\U00010000\U0010ffff" + "\x00\x1f\x7f\x80\x9f"


def any_text(random: Random, max_bytes: int) -> str:
    """Of every size around the limit, now and then past it."""
    alphabet = random.choice(["abc", CHARACTERS[:-5], CHARACTERS])
    text = "".join(random.choices(alphabet, k=random.choice([1, 2, 20, max_bytes])))
    return text if random.random() < 0.1 else text.encode()[:max_bytes].decode(errors="ignore")


def with_attributes(made: Event, random: Random) -> Event:
    """The event with attributes of every size around the limits."""
    for _ in range(random.choice([1, 2, 2, 5, 32, 33])):
        made.attributes[any_text(random, 64)] = any_text(random, 256) if random.random() < 0.9 else ""
    return made


def any_change(random: Random, name: str) -> FieldChange:
    numbers = [0.0, -0.0, 1.5, -1e308, 5e-324]
    return random.choice(
        [
            FieldChange(name=name),
            FieldChange(name=name, text=random.choice(["", "x", "Zürich", "\n", "t" * 127, "t" * 128, "é" * 512])),
            FieldChange(name=name, number=random.choice(numbers)),
            FieldChange(name=name, flag=random.random() < 0.5),
        ]
    )


def with_change(made: Event, random: Random, fields: int, purposes: int) -> Event:
    """The event as one that changes some of so many fields, or the consent to one of so many purposes, but to profiling."""
    if random.random() < 0.7:
        count = min(fields, random.choice([1, 1, 2, 3, 50]))
        names = random.sample([f"{'é' * (number % 3)}{number}" for number in range(fields)], count)
        made.profile_changed.changes.extend(any_change(random, name) for name in names)
    else:
        purposes_of = ["personalised_email", *(f"purpose {number}" for number in range(purposes))]
        made.consent_changed.purpose, made.consent_changed.state = random.choice(purposes_of), random.choice([1, 2])
    return made


def any_event(random: Random, number: int, at_ms: int, products: list[str]) -> Event:
    made = event(f"e{number}", at_ms, source=random.choice(["", "shop"]), session_id=random.choice(["", "", "", "s1", "s2"]))
    made.anonymous_id = random.choice(["", "", f"a{random.randrange(40)}"])
    if random.random() < 0.3:
        made.attributes["category"], made.attributes["price"] = random.choice([("electronics", "299.99"), ("Möbel", "19,90 €")])
    if random.random() < 0.1:
        return with_change(made, random, 3, 3)
    kind = random.random()
    if kind < 0.5:
        made.product_viewed.product_id = random.choice(products)
    elif kind < 0.7:
        made.added_to_cart.product_id = random.choice(products)
        made.added_to_cart.quantity = random.choice([0, 1, 3, 10_000])
        if random.random() < 0.5:
            made.added_to_cart.unit_price.minor_units = random.choice([0, 1, 1_999, 10**12])
            made.added_to_cart.unit_price.currency_code = random.choice(["", "EUR"])
    elif kind < 0.8:
        made.removed_from_cart.product_id = random.choice(products)
        made.removed_from_cart.quantity = random.choice([0, 1, 10_000])
    elif kind < 0.9:
        made.order_placed.order_id = "o"
        for _ in range(random.choice([1, 1, 2, 5, 16, 17, 40])):
            line = made.order_placed.lines.add(product_id=random.choice(products), quantity=random.randrange(3))
            if random.random() < 0.3:
                line.unit_price.minor_units = 5
    elif kind < 0.95:
        made.email_opened.message_id = "m"
    else:
        made.email_clicked.message_id = "m"
        made.email_clicked.product_id = random.choice(["", *products])
    return made


@pytest.mark.parametrize("seed", range(4))
def test_it_is_so_in_long_lives_past_every_bound(seed):
    random = Random(seed)
    products = [f"p{number}" for number in range([6, 150, 600, 3_000][seed])]
    if seed == 2:
        products += ["é" * 64, "🎁", "x" * 128]
    pair, at_ms = Pair(), NOON_MS
    pair.fold(changed([FieldChange(name="city", text="Zürich")], "c1"), consent("profiling", 1, "c2"), consent("sms", 2, "c3"))
    pair.left = 0
    for number in range(700):
        at_ms += random.choice([0, 1, MINUTE_MS, MINUTE_MS, 30 * MINUTE_MS, 40 * MINUTE_MS, -MINUTE_MS if random.random() < 0.3 else 5])
        value = any_event(random, number, at_ms, products).SerializeToString()
        pair.apply(value, random.choice([0, at_ms, at_ms + 10**9]))
        if random.random() < 0.05:
            assert pair.apply(value) in (Duplicate(), Denied())
    profile = pair.held.message()
    assert len(profile.history.product_ids) == 200
    assert len(profile.recent_event_ids) == 128 * 8
    assert len(profile.anonymous_ids) == 16
    if seed == 3:
        assert len(profile.purchases.product_ids) == 256
    if COMPILED is not None:
        assert pair.left < 120, "long orders and what comes late"


def test_a_cart_holds_a_hundred_lines_and_the_first_goes():
    pair = Pair()
    pair.fold(*(added(f"p{number}", f"e{number}", NOON_MS + number) for number in range(102)))
    assert [line.product_id for line in pair.held.message().cart] == [f"p{number}" for number in range(2, 102)]
    pair.fold(added("p5", "more", NOON_MS + 200, 10_000))
    assert pair.held.message().cart[3].quantity == 10_000


@compiled
@pytest.mark.parametrize("payload", PAYLOADS, ids=str)
def test_no_kind_of_event_is_left_to_python(payload):
    pair = Pair()
    pair.fold(viewed("p1", "before"), viewed("p2", "before too"))
    pair.left = 0
    assert isinstance(pair.apply(event("e", NOON_MS, source="shop", anonymous_id="a", **payload).SerializeToString()), Applied)
    assert pair.left == 0


@pytest.mark.parametrize("seed", range(4))
def test_fields_and_consents_are_what_python_makes_of_them_past_every_bound(seed):
    random = Random(seed)
    fields, purposes = [(3, 3), (101, 16), (140, 30), (1_000, 200)][seed]
    pair = Pair()
    for number in range(300):
        made = event(random.choice(["e", "é", "f", ""]) + f"{number}", NOON_MS + random.choice([0, number, number, -number, 7]))
        pair.apply(
            (with_change(made, random, fields, purposes) if random.random() < 0.9 else viewed("p", f"e{number}")).SerializeToString()
        )
    profile = pair.held.message()
    assert len(profile.attributes) == min(fields, 100)
    assert len(profile.consents) == min(purposes + 1, 16)
    assert pair.left == 0 or COMPILED is None


def test_the_last_word_on_a_field_is_by_time_and_then_by_id():
    pair = Pair()
    for number, (event_id, at_ms) in enumerate(
        [("m", 5), ("z", 4), ("a", 5), ("m\xa0", 5), ("m ", 5), ("a", 6), ("é", 6), ("z", 6), ("\uffff", 6)]
    ):
        pair.fold(changed([FieldChange(name="n", number=number)], event_id + "f", NOON_MS + at_ms))
        pair.fold(consent("sms", 1 + number % 2, event_id + "c", NOON_MS + at_ms))
    assert pair.held.message().attributes[0].number == 8
    assert pair.left == 0 or COMPILED is None


@compiled
def test_who_has_denied_profiling_may_allow_it_again():
    pair = Pair()
    pair.fold(consent("profiling", 2, "e1"), changed([FieldChange(name="n")], "e2"), consent("sms", 2, "e3"))
    pair.fold(consent("profiling", 1, "e4", NOON_MS + 1), viewed("p", "e5"))
    assert pair.left == 0
    assert pair.held.message().event_count == 4


@compiled
def test_who_has_denied_profiling_is_left_alone():
    pair = Pair()
    pair.fold(consent("profiling", 2, "e1"), consent("sms", 1, "e2"))
    pair.left = 0
    assert pair.apply(viewed("p", "e3").SerializeToString()) == Denied()
    assert pair.left == 0


@compiled
def test_ids_of_every_length_have_the_digests_of_blake2b():
    for size in range(1, 129):
        event_id = ("".join(map(chr, range(0x21, 0x7F))) * 2)[:size]
        raw, _ = COMPILED.fold(HeldProfile.new(b"ada").encode(), viewed("p", event_id).SerializeToString(), b"ada", 0, Interaction)
        assert Profile.FromString(raw).recent_event_ids == blake2b(event_id.encode(), digest_size=8).digest()


@compiled
def test_the_attributes_of_the_readme_are_not_left_to_python():
    pair = Pair()
    value = event("e", attributes={"category": "electronics", "price": "299.99"}, **PAYLOADS[0]).SerializeToString()
    assert isinstance(pair.apply(value), Applied)
    assert pair.left == 0


@pytest.mark.parametrize("seed", range(4))
def test_attributes_of_every_size_and_texts_of_every_character_are_checked_as_python_checks_them(seed):
    random = Random(seed)
    outcomes = []
    for number in range(300):
        made = any_event(random, number, NOON_MS + number, ["p1", any_text(random, 128)])
        if random.random() < 0.8:
            with_attributes(made, random)
        for field, max_bytes in (("event_id", 128), ("anonymous_id", 256), ("source", 64), ("session_id", 128)):
            if random.random() < 0.1:
                setattr(made, field, any_text(random, max_bytes))
        pair = Pair(any_text(random, 256) if random.random() < 0.2 else "ada")
        made.user_id = pair.plain.user_id
        outcomes.append(type(pair.apply(made.SerializeToString())))
        if outcomes[-1] is Applied:
            assert COMPILED is None or pair.left <= (len(made.order_placed.lines) > 16)
    assert outcomes.count(Applied) > 60
    assert outcomes.count(Violation) > 60


#: What Protobuf takes for UTF-8, and what it does not: too long, half a pair, past the last character, broken off, begun in the middle.
BYTES_OF_TEXT = [
    b"\xc2\xa0", b"\xdf\xbf", b"\xe0\xa0\x80", b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xef\xbf\xbf", b"\xf0\x90\x80\x80", b"\xf4\x8f\xbf\xbf",
    b"\xc0\x80", b"\xc1\xbf", b"\xe0\x80\x80", b"\xe0\x9f\xbf", b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf0\x80\x80\x80", b"\xf0\x8f\xbf\xbf",
    b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xff", b"\xfe", b"\x80", b"\xbf", b"\xc2", b"\xe2\x82", b"\xf0\x9f\x8e", b"\xc2A",
    b"\xe2\x82A", b"\xe2A\x82", b"\xf0\x9f\x8eA", b"\xf0A\x8e\x81", b"\xc2\x80", b"\xc2\x9f", b"\x00", b"\x7f",
]  # fmt: skip


@pytest.mark.parametrize("text", BYTES_OF_TEXT, ids=bytes.hex)
@pytest.mark.parametrize("around", [b"%s", b"a%s", b"%sa"], ids=["alone", "last", "first"])
def test_whether_bytes_are_text_is_as_protobuf_says(text, around):
    placed = around % text
    hole = b"?" * len(placed)
    made = event("e", anonymous_id=hole.decode(), product_viewed={"product_id": "p"}, attributes={"k": "v"})
    Pair().apply(made.SerializeToString().replace(hole, placed))
    for attributes in ({hole.decode(): "v"}, {"k": hole.decode()}):
        pair = Pair()
        outcome = pair.apply(event("e", attributes=attributes, **PAYLOADS[0]).SerializeToString().replace(hole, placed))
        if isinstance(outcome, Applied):
            assert pair.left == 0
    # What stands after the attribute goes on as a broken character would: the payload's tag is 0x82.
    for made in (
        event("e", attributes={"k": hole.decode()}, profile_changed={"changes": [FieldChange(name="n")]}),
        changed([FieldChange(name="n", text=hole.decode())], "e"), changed([FieldChange(name=hole.decode(), flag=True)], "e"),
        consent(hole.decode(), 1, "e"),
    ):  # fmt: skip
        Pair().apply(made.SerializeToString().replace(hole, placed))


def as_fields(*parts: bytes) -> bytes:
    return viewed("").SerializeToString().removesuffix(b"\x52\x00") + b"".join(parts)


def sized(number: int, content: bytes) -> bytes:
    tag = number << 3 | 2
    return (bytes((tag,)) if tag < 0x80 else bytes((tag & 0x7F | 0x80, 1))) + bytes((len(content),)) + content


def test_a_number_of_fixed_size_is_no_text():
    number = b"\x09ABCDEFGH"
    after_id = as_fields().removeprefix(sized(1, b"e1"))
    assert len(after_id) == len(as_fields()) - 4
    for value in (number + after_id + sized(10, b"\x0a\x01p"), as_fields(sized(10, number)), as_fields(sized(17, number + b"\x10\x01"))):
        assert isinstance(Pair().apply(value), Violation)
    for field in (3, 5, 6, 7):
        Pair().apply(as_fields(sized(10, b"\x0a\x01p"), bytes((field << 3 | 1,)) + b"ABCDEFGH"))


def test_a_change_that_is_written_in_another_way_is_what_protobuf_makes_of_it():
    name, text, flag, number = b"\x0a\x01n", b"\x12\x01t", b"\x20\x01", b"\x19" + b"\x00" * 8
    parts = (name, text, flag, number, b"\x20\x02", b"\x20\x80\x00", b"\x12\x81\x00t", b"\x92\x00\x01t", b"\x08\x01", b"\x11" + b"n" * 8,
             b"\x18\x01", b"\x21" + b"n" * 8, b"\x28\x01", b"\x19\x00", b"\x1d" + b"n" * 4,
             b"\x12\x01\xff", number[:8] + b"\x7f")  # fmt: skip
    infinite = [b"\x19" + bytes(6) + last for last in (b"\xf0\x7f", b"\xf0\xff", b"\xf8\x7f", b"\xef\x7f", b"\xef\xff", b"\xf0\x3f")]
    for one in (*parts, *infinite):
        for other in (b"", *parts):
            for change in (name + one + other, one + other + name):
                Pair().apply(as_fields(sized(16, sized(1, change))))
    for one in (
        b"\x0a\x01n",
        b"\x10\x01",
        b"\x10\x82\x00",
        b"\x10\x81\x80\x80\x80\x10",
        b"\x10\x03",
        b"\x10\x00",
        b"\x12\x01\x01",
        b"\x18\x01",
        b"",
    ):
        for other in (b"", b"\x0a\x01m", b"\x10\x02", b"\x11" + b"n" * 8):
            Pair().apply(as_fields(sized(17, one + other)))
            Pair().apply(as_fields(sized(17, one + other), sized(10, b"\x0a\x01p")))
    Pair().apply(as_fields(sized(16, sized(1, name)), sized(16, sized(1, b"\x0a\x01m"))))


def test_an_attribute_told_twice_or_without_its_parts_is_what_protobuf_makes_of_it():
    bare = event("e", **PAYLOADS[0]).SerializeToString()
    key, value, other = b"\x0a\x01k", b"\x12\x01v", b"\x12\x00"
    for entry in (b"", key, value, value + key, key + key, key + value + other, key + value + b"\x18\x01", b"\x08\x01", key + b"\x12\x05v"):
        field = b"\x3a" + bytes((len(entry),)) + entry
        for whole in (bare + field, field + bare, bare + field + field):
            Pair().apply(whole)
    entries = [b"\x3a\x06\x0a\x01" + bytes((0x41 + number % 31,)) + value for number in range(40)]
    for count in (31, 32, 33, 40):
        Pair().apply(bare + b"".join(entries[:count]))


BROKEN = [
    event(""), event("e" * 129, **PAYLOADS[0]), event("\n", **PAYLOADS[0]), event("e", 0, **PAYLOADS[0]),
    event("e", 946_684_799_999, **PAYLOADS[0]), event("e", 4_102_444_800_001, **PAYLOADS[0]), event("e", -1, **PAYLOADS[0]), event("e"),
    event("e", user_id="__a", **PAYLOADS[0]), event("e", user_id="", **PAYLOADS[0]), event("e", user_id="bob", **PAYLOADS[0]),
    event("e", user_id="a" * 257, **PAYLOADS[0]), event("e", source="s" * 65, **PAYLOADS[0]),
    event("e", session_id="s" * 129, **PAYLOADS[0]), event("e", anonymous_id="a" * 257, **PAYLOADS[0]),
    event("e", anonymous_id="\x7f", **PAYLOADS[0]), event("e", attributes={"": "x"}, **PAYLOADS[0]),
    event("e", attributes={"k" * 65: "x"}, **PAYLOADS[0]), event("e", attributes={"a": "b", "c": "v" * 257}, **PAYLOADS[0]),
    event("e", attributes={"é" * 32 + "k": "x"}, **PAYLOADS[0]), event("e", attributes={"a": "é" * 128 + "v"}, **PAYLOADS[0]),
    event("e", attributes={f"k{number}": "v" for number in range(33)}, **PAYLOADS[0]),
    event("é" * 65, **PAYLOADS[0]), event("é\x80", **PAYLOADS[0]), event("e", user_id="__é", **PAYLOADS[0]), viewed("é\x9f"), viewed("__"),
    viewed(""), viewed("__p"), viewed("p" * 129),
    event("e", added_to_cart={"product_id": "p", "quantity": 10_001}), event("e", added_to_cart={"product_id": ""}),
    event("e", added_to_cart={"product_id": "p", "unit_price": {"minor_units": -1}}),
    event("e", added_to_cart={"product_id": "p", "unit_price": {"minor_units": 10**12 + 1}}),
    event("e", added_to_cart={"product_id": "p", "unit_price": {"currency_code": "eur"}}),
    event("e", added_to_cart={"product_id": "p", "unit_price": {"currency_code": "EURO"}}),
    event("e", removed_from_cart={"product_id": "p", "quantity": 10_001}), ordered([], "e"), ordered(["p"] * 101, "e"),
    ordered(["p", ""], "e"), event("e", order_placed={"lines": [{"product_id": "p"}]}),
    event("e", order_placed={"order_id": "o" * 129, "lines": [{"product_id": "p"}]}),
    event("e", order_placed={"order_id": "o", "lines": [{"product_id": "p", "quantity": 10_001}]}),
    event("e", order_placed={"order_id": "o", "lines": [{"product_id": "p", "unit_price": {"minor_units": -5}}]}),
    changed([], "e"), changed([FieldChange(name=f"n{number}") for number in range(51)], "e"), changed([FieldChange(text="x")], "e"),
    changed([FieldChange(name="n" * 65)], "e"), changed([FieldChange(name="é" * 33)], "e"), changed([FieldChange(name="n\x80")], "e"),
    changed([FieldChange(name="n"), FieldChange(name="m"), FieldChange(name="n")], "e"),
    changed([FieldChange(name="n", text="t" * 1025)], "e"),
    changed([FieldChange(name="n", text="é" * 512 + "t")], "e"), changed([FieldChange(name="n", number=float("inf"))], "e"),
    changed([FieldChange(name="n", number=float("-inf"))], "e"), changed([FieldChange(name="n", number=float("nan"))], "e"),
    consent("", 1, "e"), consent("p" * 65, 1, "e"), consent("p\n", 1, "e"), consent("p", 0, "e"), consent("p", 3, "e"),
    consent("p", -1, "e"),
    event("e", email_opened={}), event("e", email_clicked={"product_id": "p"}),
    event("e", email_clicked={"message_id": "m", "product_id": "__"}),
]  # fmt: skip


@pytest.mark.parametrize("broken", BROKEN, ids=range(len(BROKEN)))
def test_an_event_that_breaks_a_rule_changes_nothing(broken):
    pair = Pair()
    pair.fold(viewed("p", "before"))
    assert isinstance(pair.apply(broken.SerializeToString()), Violation)
    assert isinstance(pair.apply(broken.SerializeToString(), key=broken.user_id.encode()), Violation) or broken.user_id == "bob"


def test_the_least_and_the_most_that_an_event_may_hold_is_folded():
    for made in (
        event("e" * 128, 4_102_444_800_000, session_id="s" * 128, source="s" * 64, anonymous_id="a" * 256, **PAYLOADS[0]),
        event("e", 946_684_800_000, added_to_cart={"product_id": "p" * 128, "quantity": 10_000, "unit_price": {"minor_units": 10**12}}),
        event("e", added_to_cart={"product_id": "p", "unit_price": {}}), event("e", attributes={"a": "b"}, **PAYLOADS[0]),
        changed([FieldChange(name=f"{number:02}" + "n" * 62, text="t" * 1024) for number in range(50)], "e" * 128),
        consent("é" * 32, 2, "e"),
        event("e", attributes={f"{number:02}" + "k" * 62: "v" * 256 for number in range(32)}, **PAYLOADS[0]),
        event("e", attributes={"é" * 32: "\n" * 256, "\x00": "\x80" * 128, "e": ""}, **PAYLOADS[0]),
        viewed("_p"), viewed("_"), viewed("_é"), viewed("é" * 64), event("é", **PAYLOADS[0]), event("🎁" * 32, **PAYLOADS[0]),
        ordered(["p"] * 100, "e"), ordered([f"p{n}" for n in range(100)], "e"),
    ):  # fmt: skip
        pair = Pair()
        assert isinstance(pair.apply(made.SerializeToString(), made.occurred_at_ms - 86_400_000), Applied)
        assert isinstance(pair.apply(made.SerializeToString(), made.occurred_at_ms - 86_400_001), Violation)
    long = Pair("u" * 256)
    assert isinstance(long.apply(viewed("p", user_id="u" * 256).SerializeToString()), Applied)


def mutated(random: Random, whole: bytes) -> bytes:
    if random.random() < 0.1:
        return random.randbytes(random.randint(0, 60))
    noise = bytearray(whole[: random.randint(0, len(whole))] if random.random() < 0.2 else whole)
    for _ in range(random.randint(1, 3)):
        if not noise:
            break
        place = random.randrange(len(noise))
        match random.randrange(3):
            case 0:
                noise[place] = random.choice([random.randrange(256), noise[place] ^ 1 << random.randrange(8), 0x00, 0x0A, 0x7F, 0x80, 0xFF])
            case 1:
                noise[place:place] = noise[random.randrange(len(noise)) :][: random.randint(1, 9)]
            case _:
                del noise[place : place + random.randint(1, 4)]
    return bytes(noise)


@pytest.mark.parametrize("seed", range(4))
def test_of_a_damaged_event_it_makes_what_python_makes(seed):
    random = Random(seed)
    values = [any_event(random, number, NOON_MS + number, ["p1", "p2"]).SerializeToString() for number in range(200)]
    pair = Pair()
    for _ in range(1_500):
        pair.apply(mutated(random, random.choice(values)))


@compiled
@pytest.mark.parametrize("seed", range(4))
def test_of_a_damaged_profile_it_makes_what_python_makes_or_leaves_it(seed):
    random = Random(seed)
    pair = Pair()
    wholes = []
    for number in range(60):
        pair.fold(any_event(random, number, NOON_MS + number * MINUTE_MS, ["p1", "p2", "é", "p4"]))
        wholes.append(pair.held.encode())
    for number in range(3_000):
        raw = mutated(random, random.choice(wholes))
        value = any_event(random, 1_000 + number, NOON_MS + 61 * MINUTE_MS, ["p1", "p2", "é", "p4"]).SerializeToString()
        folded = COMPILED.fold(raw, value, b"ada", 0, Interaction)
        if type(folded) is tuple:
            after, interactions = folded
            try:
                profile = Profile.FromString(raw)
            except DecodeError:
                continue  # it does not read what an event does not concern
            outcome = fold_event(profile, Event.FromString(value))
            assert outcome == Applied(interactions)
            assert Profile.FromString(after) == profile


@compiled
def test_held_fields_and_consents_that_are_not_as_the_fold_writes_them_are_left_to_python():
    new = HeldProfile.new(b"ada").encode()
    one, other, text, flag, at = b"\x0a\x01a", b"\x0a\x01b", b"\x12\x01t", b"\x20\x01", b"\x28\x01"

    def taken(value: bytes, number: int, *held: bytes) -> bool:
        return COMPILED.fold(new + b"".join(sized(number, content) for content in held), value, b"ada", 0, Interaction) is not None

    change = changed([FieldChange(name="n", flag=True)], "e").SerializeToString()
    assert taken(change, 8, one + text + at + b"\x32\x01e", other + flag)
    for held in (
        [b"\x08\x01" + at], [one + text + flag], [one + b"\x2a\x01t"], [one + b"\x30\x01"], [one + b"\x38\x01"], [text + one], [one + one],
        [one + b"\x19t"], [one + b"\x11" + b"t" * 8], [b"\xff"], [other, one], [one, one], [b"\x0a\x02" + b"%02d" % n for n in range(101)],
    ):  # fmt: skip
        assert not taken(change, 8, *held), held
    said = consent("sms", 1, "e").SerializeToString()
    assert taken(said, 9, one + b"\x10\x01\x18\x01\x22\x01e", other)
    for held in ([b"\x08\x01"], [one + text], [one + b"\x1a\x01t"], [one + b"\x20\x01"], [one + at], [other, one], [one, one],
                 [b"\x0a\x02" + b"%02d" % n for n in range(17)]):  # fmt: skip
        assert not taken(said, 9, *held), held


@compiled
def test_arguments_of_other_kinds_are_left_to_python():
    value = viewed("p").SerializeToString()
    for arguments in (
        (), (b"", value, b"ada", 0), (None, value, b"ada", 0, Interaction), (b"", None, b"ada", 0, Interaction),
        (b"", value, "ada", 0, Interaction),
        (b"", value, b"ada", 0.0, Interaction), (b"", value, b"ada", 1 << 70, Interaction), (b"", value, b"ada", 0, dict),
        (b"", value, b"ada", 0, None),
    ):  # fmt: skip
        assert COMPILED.fold(*arguments) is None


@compiled
def test_folds_leave_nothing_behind():
    random = Random(1)
    pair = Pair()
    cases = []
    for number in range(100):
        value = any_event(random, number, NOON_MS + number * MINUTE_MS, ["p1", "p2", "p3"]).SerializeToString()
        cases += [(pair.held.encode(), value), (pair.held.encode(), mutated(random, value)), (mutated(random, pair.held.encode()), value)]
        pair.apply(value)

    def blocks(rounds: int) -> int:
        for _ in range(rounds):
            for raw, value in cases:
                COMPILED.fold(raw, value, b"ada", 0, Interaction)
        gc.collect()
        return sys.getallocatedblocks()

    before = blocks(3)
    assert blocks(20) - before < 20, "a block for every round would be 20"


def test_bytes_that_are_no_profile_are_told_by_whoever_reads_them():
    with pytest.raises(DecodeError):
        HeldProfile.decode(b"\xff").message()
    with pytest.raises(DecodeError):
        HeldProfile.decode(b"\xff").apply(viewed("p").SerializeToString(), b"ada", 0)
    assert message_of(None) is None


@settings(max_examples=20, deadline=None)
@given(histories(max_size=10))
def test_stored_and_read_in_between_it_is_the_same(events):
    whole, stored = HeldProfile.new(b"ada"), HeldProfile.new(b"ada")
    for one in events:
        value = one.SerializeToString()
        outcome = whole.apply(value, b"ada", 0)
        stored = HeldProfile.decode(stored.encode())
        assert stored.apply(value, b"ada", 0) == outcome
    assert stored.encode() == whole.encode()
    assert stored.message() == whole.message()


def known(number: int) -> HeldProfile:
    return HeldProfile.decode(HeldProfile.new(b"user-%d" % number).encode())


@compiled
def test_only_those_who_were_read_last_keep_their_messages():
    everybody, recent = [known(number) for number in range(3 * MAX_MESSAGES)], RecentMessages()
    for held in everybody:
        assert recent.message_of(held).user_id
    assert [held.has_message for held in everybody] == [False] * 2 * MAX_MESSAGES + [True] * MAX_MESSAGES
    message = everybody[-1].message()
    assert recent.message_of(everybody[-1]) is message, "which is not read again"
    assert recent.message_of(everybody[0]).user_id == "user-0"
    assert not everybody[2 * MAX_MESSAGES].has_message
    assert recent.message_of(None) is None


def test_a_message_that_was_changed_is_not_let_go_of():
    """Where events are folded into messages, and where one of them is left to Python."""
    recent, whole, held = RecentMessages(2), HeldProfile.new(b"ada"), HeldProfile.new(b"ada")
    late = viewed("old", "e2", at_ms=NOON_MS - 60 * MINUTE_MS)
    for one in (viewed("new", at_ms=NOON_MS), late):
        value = one.SerializeToString()
        whole.apply(value, b"ada", 0)
        recent.message_of(held)
        held.apply(value, b"ada", 0)
        for other in range(5):
            recent.message_of(known(other))
        held.let_go_of_message()
    assert held.message() == whole.message()
    assert held.encode() == whole.encode()
    assert recent.message_of(held).event_count == 2
