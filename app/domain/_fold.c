/* One event folded into a profile, compiled: what decode_event (app/domain/validation.py) and fold_event (profile.py) say in Python, to the
 * last byte, from bytes to bytes, ten times as fast.
 *
 * It is optional. Where no compiler was at hand when Tidings was installed, the Python is used, and it says the same. So this file keeps
 * to what is usual: an event that breaks a rule or comes late, and a profile that is not written as Protobuf writes it, it leaves to the
 * Python by answering None. What an event does not concern is copied as it is.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* What app/domain/held_profile.py expects; another number is that of an extension built from other sources. */
#define INTERFACE 1

/* As in validation.py, profile.py, fields.py, cart.py and purchases.py; the tests hold both to the same results. */
#define EARLIEST_MS INT64_C(946684800000)
#define LATEST_MS INT64_C(4102444800000)
#define MAX_AHEAD_MS INT64_C(86400000)
#define MAX_USER_ID 256
#define MAX_ID 128
#define MAX_ANONYMOUS_ID 256
#define MAX_SOURCE 64
#define MAX_EVENT_ATTRIBUTES 32
#define MAX_ATTRIBUTE_KEY 64
#define MAX_ATTRIBUTE_VALUE 256
#define MAX_QUANTITY 10000
#define MAX_MINOR_UNITS INT64_C(1000000000000)
#define SESSION_GAP_MS INT64_C(1800000)
#define MAX_HISTORY 200
#define MAX_SESSION_PRODUCTS 30
#define MAX_EARLIER 16
#define MAX_EARLIER_AT_START 127
#define MAX_RECENT 128
#define DIGEST 8
#define MAX_ANONYMOUS_IDS 16
#define MAX_CART_LINES 100
#define MAX_LINE_QUANTITY 10000
#define MAX_PURCHASES 256
#define MAX_BOUGHT_LINKS 5
#define MAX_CHANGES 50
#define MAX_FIELD_NAME 64
#define MAX_FIELD_TEXT 1024
#define MAX_PURPOSE 64
#define MAX_ATTRIBUTES 100
#define MAX_CONSENTS 16
/* Distinct products of an order; longer ones are left to the Python. */
#define MAX_ORDERED 16

enum { FAILED = -1, DONE = 0, UNUSUAL = 1, DUPLICATE = 2, DENIED = 3 };
enum { VIEW = 1, CART = 2, PURCHASE = 3, EMAIL_CLICK = 4 }; /* kinds of interactions */
enum { VIEWED = 10, ADDED, REMOVED, ORDERED, OPENED, CLICKED, CHANGED, CONSENTED }; /* payloads */
enum { CONSENT_GRANTED = 1, CONSENT_DENIED = 2 };
enum { VARINT = 0, FIXED64 = 1, SIZED = 2 };

typedef struct {
    const uint8_t *at;
    size_t size;
} Span;

typedef struct {
    uint32_t number, type;
    uint64_t value; /* of a VARINT */
    Span content;   /* of a SIZED one */
    Span raw;       /* all of it */
} Field;

typedef struct {
    Span id;
    uint64_t quantity, added_at_ms;
    Span price; /* the whole field; size 0: there is none */
    Span raw;   /* the whole field it was read from; size 0: it has changed */
} Line;

/* An attribute or a consent: what a profile holds, or what an event says. */
typedef struct {
    Span name;
    Span value; /* the whole field, the same in an event and a profile; size 0: there is none, or 0 */
    uint64_t at_ms;
    Span event_id;
    int worth; /* past the bound, what is worth the least goes */
    Span raw;  /* the whole field it was read from; size 0: it is the event's */
} Held;

typedef struct {
    Span event_id, user_id, anonymous_id, source, session_id;
    int64_t at_ms;
    uint32_t payload;
    Span product, message_id;
    uint64_t quantity;
    int has_price;
    uint64_t minor_units;
    Span currency;
    int ordered_count, change_count;
    Span ordered[MAX_ORDERED]; /* distinct products */
    Held changes[MAX_CHANGES]; /* of fields, or of one consent */
} Event;

typedef struct {
    Span user_id, recent, anonymous_first, anonymous, new_anonymous, attributes, consents;
    uint64_t first_at_ms, last_at_ms, event_count;
    int anonymous_count, has_session, has_email;
    uint64_t email[4]; /* opened, clicked, last opened, last clicked */
    Span session_id;
    uint64_t started_at_ms, session_last_at_ms, session_count, history_count;
    int session_first, session_end; /* of `session_products` */

    Span history;        /* the whole field, as it is until something is touched */
    Span times, kinds;   /* packed */
    int first, end;      /* of `products` */
    int touched;         /* appended: products are in their list, times and kinds are the event's */

    Span cart;           /* the whole fields, as they are until something is changed */
    int cart_is_read;
    int line_first, line_end;
    int held_is_read;    /* the attributes or the consents, whichever the event changes; else they are as they are */
    int held_count;
    Span purchases;      /* the whole field, as it is until something is bought */
    int purchases_are_read;
    int bought_count;

    /* From here on, what the counts above say is set. */
    Span session_products[MAX_SESSION_PRODUCTS + MAX_ORDERED];
    Span products[MAX_HISTORY + MAX_ORDERED];
    Line lines[MAX_CART_LINES + 1];
    Held held[MAX_ATTRIBUTES + 1];
    Span bought[MAX_PURCHASES + 1];
    uint64_t bought_first[MAX_PURCHASES + 1], bought_last[MAX_PURCHASES + 1], bought_times[MAX_PURCHASES + 1];
} Profile;

/* Reading ------------------------------------------------------------------------------------------------------------------------ */

static int
read_varint(Span *from, uint64_t *number)
{
    *number = 0;
    for (int shift = 0; shift < 64 && from->size; shift += 7) {
        uint8_t byte = *from->at++;
        from->size--;
        if (shift == 63 && byte > 1)
            return 0;
        *number |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return 1;
    }
    return 0;
}

/* The next field; 0: these bytes are no message, or have a field that none of ours has. */
static int
read_any_field(Span *from, Field *field)
{
    uint64_t tag;
    const uint8_t *begin = from->at;
    if (!read_varint(from, &tag) || tag > UINT32_MAX || tag < 8)
        return 0;
    field->number = (uint32_t)tag >> 3;
    field->type = tag & 7;
    if (field->type == FIXED64)
        field->value = sizeof(double);
    else if ((field->type != VARINT && field->type != SIZED) || !read_varint(from, &field->value))
        return 0;
    if (field->type != VARINT) {
        if (field->value > from->size)
            return 0;
        field->content = (Span){from->at, (size_t)field->value};
        from->at += field->value;
        from->size -= field->value;
    }
    field->raw = (Span){begin, (size_t)(from->at - begin)};
    return 1;
}

/* The same of a message without numbers of fixed size, as all are but a field's value. */
static int
read_field(Span *from, Field *field)
{
    return read_any_field(from, field) && field->type != FIXED64;
}

static int
is_same(Span one, Span other)
{
    return one.size == other.size && (!one.size || memcmp(one.at, other.at, one.size) == 0);
}

/* How many bytes the character beyond ASCII takes that these begin with; 0: it is none of UTF-8. */
static size_t
character_size(const uint8_t *at, size_t left)
{
    uint8_t lead = at[0];
    size_t size = lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
    if (size == 0 || size > left)
        return 0;
    for (size_t place = 1; place < size; place++)
        if ((at[place] & 0xc0) != 0x80)
            return 0;
    /* No longer than it must be, no half of a pair, and none past U+10FFFF. */
    if ((lead == 0xe0 && at[1] < 0xa0) || (lead == 0xed && at[1] > 0x9f) || (lead == 0xf0 && at[1] < 0x90) || (lead == 0xf4 && at[1] > 0x8f))
        return 0;
    return size;
}

/* Whether it is at most so many bytes of UTF-8. */
static int
is_text(Span text, size_t max_bytes)
{
    if (text.size > max_bytes)
        return 0;
    for (size_t place = 0, size; place < text.size; place += size)
        if ((size = text.at[place] < 0x80 ? 1 : character_size(text.at + place, text.size - place)) == 0)
            return 0;
    return 1;
}

/* Whether it is 1 to so many bytes of UTF-8 without control characters (U+0000 to U+001F, U+007F to U+009F). */
static int
is_id(Span text, size_t max_bytes)
{
    if (text.size == 0 || text.size > max_bytes)
        return 0;
    for (size_t place = 0, size; place < text.size; place += size) {
        const uint8_t *at = text.at + place;
        if (*at < 0x80) {
            if (*at < 0x20 || *at == 0x7f)
                return 0;
            size = 1;
        }
        else if ((size = character_size(at, text.size - place)) == 0 || (at[0] == 0xc2 && at[1] < 0xa0))
            return 0;
    }
    return 1;
}

static int
is_key(Span text, size_t max_bytes)
{
    return is_id(text, max_bytes) && (text.size < 2 || text.at[0] != '_' || text.at[1] != '_');
}

/* Less than, equal to or greater than 0, as the texts are sorted: characters of UTF-8 sort as their bytes do. */
static int
compared(Span one, Span other)
{
    size_t both = one.size < other.size ? one.size : other.size;
    int order = both ? memcmp(one.at, other.at, both) : 0;
    return order ? order : (one.size > other.size) - (one.size < other.size);
}

/* A field that stands once: 0 if it was seen before. */
static int
is_first(uint32_t *seen, uint32_t number)
{
    uint32_t bit = UINT32_C(1) << (number & 31);
    int first = number < 32 && !(*seen & bit);
    *seen |= bit;
    return first;
}

/* The event ---------------------------------------------------------------------------------------------------------------------- */

static int
read_money(Span from, uint64_t *minor_units, Span *currency)
{
    Field field;
    uint32_t seen = 0;
    *minor_units = 0;
    *currency = (Span){from.at, 0};
    while (from.size) {
        if (!read_field(&from, &field) || !is_first(&seen, field.number))
            return 0;
        if (field.number == 1 && field.type == VARINT)
            *minor_units = field.value;
        else if (field.number == 2 && field.type == SIZED)
            *currency = field.content;
        else
            return 0;
    }
    if ((int64_t)*minor_units < 0 || *minor_units > MAX_MINOR_UNITS || (currency->size && currency->size != 3))
        return 0;
    for (size_t place = 0; place < currency->size; place++)
        if (currency->at[place] < 'A' || currency->at[place] > 'Z')
            return 0;
    return 1;
}

/* What a cart is changed by, and an order's line: a product, how many, and perhaps at what price. */
static int
read_line(Span from, int may_have_price, Event *event)
{
    Field field;
    uint32_t seen = 0;
    event->product.size = 0;
    event->quantity = 0;
    event->has_price = 0;
    while (from.size) {
        if (!read_field(&from, &field) || !is_first(&seen, field.number))
            return 0;
        if (field.number == 1 && field.type == SIZED)
            event->product = field.content;
        else if (field.number == 2 && field.type == VARINT)
            event->quantity = field.value;
        else if (field.number == 3 && field.type == SIZED && may_have_price)
            event->has_price = read_money(field.content, &event->minor_units, &event->currency);
        else
            return 0;
        if (field.number == 3 && !event->has_price)
            return 0;
    }
    return is_key(event->product, MAX_ID) && event->quantity <= MAX_QUANTITY;
}

static int
read_order(Span from, Event *event)
{
    Field field;
    uint32_t seen = 0;
    while (from.size) {
        if (!read_field(&from, &field) || field.type != SIZED)
            return 0;
        if (field.number == 1) {
            if (!is_first(&seen, 1) || !is_id(field.content, MAX_ID))
                return 0;
        }
        else if (field.number == 2) {
            if (!read_line(field.content, 1, event))
                return 0;
            int known = 0;
            while (known < event->ordered_count && !is_same(event->ordered[known], event->product))
                known++;
            if (known == MAX_ORDERED)
                return 0;
            if (known == event->ordered_count)
                event->ordered[event->ordered_count++] = event->product;
        }
        else
            return 0;
    }
    return seen && event->ordered_count;
}

/* A message of one or two texts. */
static int
read_texts(Span from, Span *first, Span *second)
{
    Field field;
    uint32_t seen = 0;
    while (from.size) {
        if (!read_field(&from, &field) || field.type != SIZED || !is_first(&seen, field.number))
            return 0;
        if (field.number == 1)
            *first = field.content;
        else if (field.number == 2 && second != NULL)
            *second = field.content;
        else
            return 0;
    }
    return 1;
}

static int
is_finite(Span number)
{
    /* The exponent is in the upper bits of the last two bytes. */
    return (number.at[7] & 0x7f) != 0x7f || (number.at[6] & 0xf0) != 0xf0;
}

/* One field of the profile. Its value is written there as it is here, so it must be as short as it can be. */
static int
read_change(Span from, Held *change)
{
    Field field;
    uint32_t seen = 0;
    *change = (Held){0};
    while (from.size) {
        if (!read_any_field(&from, &field) || !is_first(&seen, field.number))
            return 0;
        if (field.number == 1 && field.type == SIZED) {
            change->name = field.content;
            continue;
        }
        size_t head = 1;
        if (field.number == 2 && field.type == SIZED && is_text(field.content, MAX_FIELD_TEXT))
            head = field.content.size < 0x80 ? 2 : 3;
        else if (field.number == 3 && field.type == FIXED64 && is_finite(field.content))
            head = 1;
        else if (field.number == 4 && field.type == VARINT && field.value <= 1)
            field.content.size = 1;
        else
            return 0;
        if (change->value.size || field.raw.size != head + field.content.size)
            return 0;
        change->value = field.raw;
        change->worth = 1;
    }
    return is_id(change->name, MAX_FIELD_NAME);
}

static int
read_changes(Span from, Event *event)
{
    Field field;
    while (from.size) {
        if (!read_field(&from, &field) || field.number != 1 || field.type != SIZED || event->change_count == MAX_CHANGES)
            return 0;
        Held *change = &event->changes[event->change_count];
        if (!read_change(field.content, change))
            return 0;
        for (int place = 0; place < event->change_count; place++)
            if (is_same(event->changes[place].name, change->name))
                return 0;
        event->change_count++;
    }
    return event->change_count;
}

static int
is_profiling(Span purpose)
{
    return purpose.size == 9 && memcmp(purpose.at, "profiling", 9) == 0;
}

/* What a consent is worth: profiling and personalised e-mail stay, and what is denied rather than what is granted. */
static int
worth_of_consent(Span purpose, uint64_t state)
{
    int stays = is_profiling(purpose) || (purpose.size == 18 && memcmp(purpose.at, "personalised_email", 18) == 0);
    return 2 * stays + (state == CONSENT_DENIED);
}

static int
read_consent(Span from, Event *event)
{
    Field field;
    uint32_t seen = 0;
    uint64_t state = 0;
    Held *consent = &event->changes[0];
    *consent = (Held){0};
    while (from.size) {
        if (!read_field(&from, &field) || !is_first(&seen, field.number))
            return 0;
        if (field.number == 1 && field.type == SIZED)
            consent->name = field.content;
        else if (field.number == 2 && field.type == VARINT && field.raw.size == 2) {
            consent->value = field.raw;
            state = field.value;
        }
        else
            return 0;
    }
    consent->worth = worth_of_consent(consent->name, state);
    event->change_count = 1;
    return is_id(consent->name, MAX_PURPOSE) && (state == CONSENT_GRANTED || state == CONSENT_DENIED);
}

static int
read_payload(Span content, Event *event)
{
    switch (event->payload) {
    case VIEWED:
        return read_texts(content, &event->product, NULL) && is_key(event->product, MAX_ID);
    case ADDED:
    case REMOVED:
        return read_line(content, event->payload == ADDED, event);
    case ORDERED: {
        /* 100 lines may be said, but of a few products only here. */
        Field field;
        int lines = 0;
        for (Span left = content; left.size;)
            if (!read_field(&left, &field) || (lines += field.number == 2) > 100)
                return 0;
        return read_order(content, event);
    }
    case OPENED:
        return read_texts(content, &event->message_id, NULL) && is_id(event->message_id, MAX_ID);
    case CLICKED:
        return read_texts(content, &event->message_id, &event->product) && is_id(event->message_id, MAX_ID)
            && (!event->product.size || is_key(event->product, MAX_ID));
    case CHANGED:
        return read_changes(content, event);
    case CONSENTED:
        return read_consent(content, event);
    default:
        return 0;
    }
}

/* A fact about the event: it is checked, and not folded. */
static int
is_attribute(Span from)
{
    Span key = {0}, value = {0};
    return read_texts(from, &key, &value) && key.size && is_text(key, MAX_ATTRIBUTE_KEY) && is_text(value, MAX_ATTRIBUTE_VALUE);
}

/* 0: it breaks a rule, or is unusual. */
static int
read_event(Span from, Span key, int64_t received_at_ms, Event *event)
{
    Field field;
    Span content = {0};
    uint32_t seen = 0;
    int attributes = 0;
    memset(event, 0, offsetof(Event, ordered));
    while (from.size) {
        if (!read_field(&from, &field) || (field.type == VARINT) != (field.number == 4))
            return 0;
        if (field.number == 7) {
            if (attributes++ == MAX_EVENT_ATTRIBUTES || !is_attribute(field.content))
                return 0;
            continue;
        }
        if (!is_first(&seen, field.number))
            return 0;
        switch (field.number) {
        case 1:
            event->event_id = field.content;
            break;
        case 2:
            event->user_id = field.content;
            break;
        case 3:
            event->anonymous_id = field.content;
            break;
        case 4:
            event->at_ms = (int64_t)field.value;
            break;
        case 5:
            event->source = field.content;
            break;
        case 6:
            event->session_id = field.content;
            break;
        default:
            if (field.number < VIEWED || field.number > CONSENTED || event->payload)
                return 0;
            event->payload = field.number;
            content = field.content;
        }
    }
    return is_id(event->event_id, MAX_ID) && is_key(event->user_id, MAX_USER_ID) && is_same(event->user_id, key)
        && event->at_ms >= EARLIEST_MS && event->at_ms <= LATEST_MS
        && (received_at_ms <= 0 || received_at_ms >= event->at_ms - MAX_AHEAD_MS)
        && (!event->anonymous_id.size || is_id(event->anonymous_id, MAX_ANONYMOUS_ID))
        && (!event->source.size || is_id(event->source, MAX_SOURCE)) && (!event->session_id.size || is_id(event->session_id, MAX_ID))
        && event->payload && read_payload(content, event);
}

/* The profile -------------------------------------------------------------------------------------------------------------------- */

/* How many numbers are packed here; -1: it does not end with one. */
static int
count_packed(Span numbers)
{
    int count = 0;
    for (size_t place = 0; place < numbers.size; place++)
        count += numbers.at[place] < 0x80;
    return numbers.size && numbers.at[numbers.size - 1] >= 0x80 ? -1 : count;
}

static int
read_packed(Span numbers, uint64_t *into, int max_count, int *count)
{
    for (*count = 0; numbers.size; ++*count)
        if (*count == max_count || !read_varint(&numbers, &into[*count]))
            return 0;
    return 1;
}

/* Fields in their order, those that stand once once. */
static int
is_in_order(uint32_t *last, const Field *field, uint32_t repeated)
{
    int in_order = field->number < 32 && (field->number > *last || (field->number == *last && repeated >> field->number & 1));
    *last = field->number;
    return in_order;
}

static int
read_session(Span from, Profile *profile)
{
    Field field;
    uint32_t last = 0;
    profile->has_session = 1;
    while (from.size) {
        if (!read_field(&from, &field) || !is_in_order(&last, &field, 1 << 5)
            || (field.type == SIZED) != (field.number == 1 || field.number == 5))
            return 0;
        switch (field.number) {
        case 1:
            profile->session_id = field.content;
            break;
        case 2:
            profile->started_at_ms = field.value;
            break;
        case 3:
            profile->session_last_at_ms = field.value;
            break;
        case 4:
            profile->session_count = field.value;
            break;
        case 5:
            if (profile->session_end == MAX_SESSION_PRODUCTS)
                return 0;
            profile->session_products[profile->session_end++] = field.content;
            break;
        case 6:
            profile->history_count = field.value;
            break;
        default:
            return 0;
        }
    }
    return profile->session_count && profile->session_count < UINT32_MAX && profile->history_count <= MAX_HISTORY
        && (profile->history_count || !profile->session_end);
}

static int
read_history(const Field *whole, Profile *profile)
{
    Field field;
    Span from = whole->content;
    uint32_t last = 0;
    profile->history = whole->raw;
    while (from.size) {
        if (!read_field(&from, &field) || field.type != SIZED || !is_in_order(&last, &field, 1 << 1))
            return 0;
        if (field.number == 1) {
            if (profile->end == MAX_HISTORY)
                return 0;
            profile->products[profile->end++] = field.content;
        }
        else if (field.number == 2)
            profile->times = field.content;
        else if (field.number == 3)
            profile->kinds = field.content;
        else
            return 0;
    }
    return count_packed(profile->times) == profile->end && count_packed(profile->kinds) == profile->end;
}

static int
read_email(Span from, Profile *profile)
{
    Field field;
    uint32_t last = 0;
    profile->has_email = 1;
    while (from.size) {
        if (!read_field(&from, &field) || field.type != VARINT || !is_in_order(&last, &field, 0) || field.number > 4)
            return 0;
        profile->email[field.number - 1] = field.value;
    }
    return 1;
}

/* One more of those that follow each other. */
static void
extend(Span *all, Span one)
{
    if (!all->size)
        all->at = one.at;
    all->size += one.size;
}

/* Carts and purchases are read where an event concerns them. 0: it is unusual. */
static int
read_profile(Span from, Profile *profile)
{
    Field field;
    uint32_t last = 0;
    memset(profile, 0, offsetof(Profile, session_products));
    while (from.size) {
        if (!read_field(&from, &field) || !is_in_order(&last, &field, 1 << 7 | 1 << 8 | 1 << 9 | 1 << 11)
            || (field.type == VARINT) != (field.number >= 2 && field.number <= 4))
            return 0;
        switch (field.number) {
        case 1:
            profile->user_id = field.content;
            break;
        case 2:
            profile->first_at_ms = field.value;
            break;
        case 3:
            profile->last_at_ms = field.value;
            break;
        case 4:
            profile->event_count = field.value;
            break;
        case 5:
            if (!read_session(field.content, profile))
                return 0;
            break;
        case 6:
            if (!read_history(&field, profile))
                return 0;
            break;
        case 7:
            extend(&profile->cart, field.raw);
            break;
        case 8:
            extend(&profile->attributes, field.raw);
            break;
        case 9:
            extend(&profile->consents, field.raw);
            break;
        case 10:
            profile->recent = field.content;
            break;
        case 11:
            if (!profile->anonymous_count++)
                profile->anonymous_first = field.raw;
            extend(&profile->anonymous, field.raw);
            break;
        case 12:
            if (!read_email(field.content, profile))
                return 0;
            break;
        case 14:
            profile->purchases = field.raw;
            break;
        default:
            return 0;
        }
    }
    return profile->history_count <= (uint64_t)profile->end && profile->event_count < UINT64_MAX && (int64_t)profile->last_at_ms >= 0
        && profile->recent.size % DIGEST == 0 && profile->recent.size <= MAX_RECENT * DIGEST
        && profile->anonymous_count <= MAX_ANONYMOUS_IDS;
}

static int
read_cart(Profile *profile)
{
    Field one, field;
    Span from = profile->cart;
    profile->cart_is_read = 1;
    while (from.size) {
        if (profile->line_end == MAX_CART_LINES || !read_field(&from, &one))
            return UNUSUAL;
        Line *line = &profile->lines[profile->line_end++];
        uint32_t last = 0;
        *line = (Line){.raw = one.raw};
        for (Span left = one.content; left.size;) {
            if (!read_field(&left, &field) || !is_in_order(&last, &field, 0)
                || (field.type == SIZED) != (field.number == 1 || field.number == 4))
                return UNUSUAL;
            switch (field.number) {
            case 1:
                line->id = field.content;
                break;
            case 2:
                line->quantity = field.value;
                break;
            case 3:
                line->added_at_ms = field.value;
                break;
            case 4:
                line->price = field.raw;
                break;
            default:
                return UNUSUAL;
            }
        }
        if (line->quantity > MAX_LINE_QUANTITY)
            return UNUSUAL;
    }
    return DONE;
}

static int
read_purchases(Profile *profile)
{
    Field field;
    Span from = profile->purchases;
    uint32_t last = 0;
    int counts[3] = {0};
    profile->purchases_are_read = 1;
    if (!from.size)
        return DONE;
    if (!read_field(&from, &field))
        return UNUSUAL;
    for (from = field.content; from.size;) {
        if (!read_field(&from, &field) || field.type != SIZED || !is_in_order(&last, &field, 1 << 1) || field.number > 4)
            return UNUSUAL;
        if (field.number == 1) {
            if (profile->bought_count == MAX_PURCHASES)
                return UNUSUAL;
            profile->bought[profile->bought_count++] = field.content;
            continue;
        }
        uint64_t *columns[] = {profile->bought_first, profile->bought_last, profile->bought_times};
        if (!read_packed(field.content, columns[field.number - 2], MAX_PURCHASES, &counts[field.number - 2]))
            return UNUSUAL;
    }
    for (int list = 0; list < 3; list++)
        if (counts[list] != profile->bought_count)
            return UNUSUAL;
    return DONE;
}

/* An attribute, or a consent. */
static int
read_held_one(Span from, int is_consent, Held *held)
{
    Field field;
    uint32_t last = 0;
    uint64_t state = 0;
    while (from.size) {
        if (!read_any_field(&from, &field) || !is_in_order(&last, &field, 0))
            return 0;
        uint32_t number = field.number, type = field.type;
        if (number == 1 && type == SIZED)
            held->name = field.content;
        else if (number == (is_consent ? 3 : 5) && type == VARINT)
            held->at_ms = field.value;
        else if (number == (is_consent ? 4 : 6) && type == SIZED)
            held->event_id = field.content;
        else if (is_consent ? number == 2 && type == VARINT
                            : !held->value.size && number >= 2 && number <= 4
                                  && type == (number == 2 ? SIZED : number == 3 ? FIXED64 : VARINT)) {
            held->value = field.raw;
            state = field.value;
        }
        else
            return 0;
    }
    held->worth = is_consent ? worth_of_consent(held->name, state) : held->value.size != 0;
    return 1;
}

/* Sorted by name. */
static int
read_held(Profile *profile, Span from, int is_consent, int max_count)
{
    Field field;
    profile->held_is_read = 1;
    while (from.size) {
        if (profile->held_count == max_count || !read_field(&from, &field))
            return UNUSUAL;
        Held *held = &profile->held[profile->held_count];
        *held = (Held){.raw = field.raw};
        if (!read_held_one(field.content, is_consent, held))
            return UNUSUAL;
        if (profile->held_count++ && compared(held[-1].name, held->name) >= 0)
            return UNUSUAL;
    }
    return DONE;
}

/* The fold ----------------------------------------------------------------------------------------------------------------------- */

/* BLAKE2b (RFC 7693) of at most one block, its first 8 bytes. */
static uint64_t
digest_of(Span text)
{
    static const uint64_t start[8] = {
        UINT64_C(0x6a09e667f3bcc908), UINT64_C(0xbb67ae8584caa73b), UINT64_C(0x3c6ef372fe94f82b), UINT64_C(0xa54ff53a5f1d36f1),
        UINT64_C(0x510e527fade682d1), UINT64_C(0x9b05688c2b3e6c1f), UINT64_C(0x1f83d9abfb41bd6b), UINT64_C(0x5be0cd19137e2179),
    };
    static const uint8_t sigma[10][16] = {
        {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
        {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
        {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
        {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
        {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
    };
    uint64_t v[16], m[16];
    uint8_t block[128] = {0};
    memcpy(block, text.at, text.size);
    for (int word = 0; word < 16; word++) {
        m[word] = 0;
        for (int byte = 7; byte >= 0; byte--)
            m[word] = m[word] << 8 | block[8 * word + byte];
    }
    memcpy(v, start, sizeof(start));
    memcpy(v + 8, start, sizeof(start));
    v[0] ^= UINT64_C(0x01010000) ^ DIGEST;
    v[12] ^= text.size;
    v[14] = ~v[14];
#define ROTATED(word, bits) ((word) >> (bits) | (word) << (64 - (bits)))
#define MIX(a, b, c, d, x, y) \
    (a += b + (x), d = ROTATED(d ^ a, 32), c += d, b = ROTATED(b ^ c, 24), \
     a += b + (y), d = ROTATED(d ^ a, 16), c += d, b = ROTATED(b ^ c, 63))
    for (int round = 0; round < 12; round++) {
        const uint8_t *s = sigma[round % 10];
        MIX(v[0], v[4], v[8], v[12], m[s[0]], m[s[1]]);
        MIX(v[1], v[5], v[9], v[13], m[s[2]], m[s[3]]);
        MIX(v[2], v[6], v[10], v[14], m[s[4]], m[s[5]]);
        MIX(v[3], v[7], v[11], v[15], m[s[6]], m[s[7]]);
        MIX(v[0], v[5], v[10], v[15], m[s[8]], m[s[9]]);
        MIX(v[1], v[6], v[11], v[12], m[s[10]], m[s[11]]);
        MIX(v[2], v[7], v[8], v[13], m[s[12]], m[s[13]]);
        MIX(v[3], v[4], v[9], v[14], m[s[14]], m[s[15]]);
    }
#undef MIX
#undef ROTATED
    return start[0] ^ UINT64_C(0x01010000) ^ DIGEST ^ v[0] ^ v[8];
}

static void
put_digest(uint8_t *at, uint64_t digest)
{
    for (int byte = 0; byte < DIGEST; byte++, digest >>= 8)
        at[byte] = (uint8_t)digest;
}

/* DENIED, UNUSUAL, or DONE: they have not denied profiling. */
static int
look_at_consents(Span consents)
{
    Field one, field;
    int denied = 0;
    while (consents.size) {
        Span purpose = {0};
        uint64_t state = 0;
        if (!read_field(&consents, &one))
            return UNUSUAL;
        for (Span left = one.content; left.size;) {
            if (!read_field(&left, &field))
                return UNUSUAL;
            if (field.number == 1 && field.type == SIZED)
                purpose = field.content;
            else if (field.number == 2 && field.type == VARINT)
                state = field.value;
        }
        denied |= state == CONSENT_DENIED && is_profiling(purpose);
    }
    return denied ? DENIED : DONE;
}

static void
remember_anonymous(Profile *profile, Span id)
{
    Field field;
    for (Span left = profile->anonymous; left.size;)
        if (!read_field(&left, &field) || is_same(field.content, id))
            return;
    profile->new_anonymous = id;
    if (profile->anonymous_count == MAX_ANONYMOUS_IDS) {
        profile->anonymous.at += profile->anonymous_first.size;
        profile->anonymous.size -= profile->anonymous_first.size;
    }
}

static int
join_session(Profile *profile, const Event *event)
{
    uint64_t at_ms = (uint64_t)event->at_ms;
    if (profile->has_session) {
        int64_t last_ms = (int64_t)profile->session_last_at_ms, started_ms = (int64_t)profile->started_at_ms;
        if (last_ms < 0 || last_ms > LATEST_MS || started_ms < 0 || started_ms > last_ms)
            return UNUSUAL;
        int joins, is_named = event->session_id.size && profile->session_id.size;
        if (is_named)
            joins = is_same(event->session_id, profile->session_id);
        else if (event->at_ms >= last_ms)
            joins = event->at_ms <= last_ms + SESSION_GAP_MS;
        else
            joins = event->at_ms >= started_ms - SESSION_GAP_MS;
        if (joins) {
            profile->session_count++;
            if (event->at_ms > last_ms)
                profile->session_last_at_ms = at_ms;
            else if (event->at_ms < started_ms)
                profile->started_at_ms = at_ms;
            if (event->session_id.size && !is_named)
                profile->session_id = event->session_id;
            return DONE;
        }
        if (event->at_ms < last_ms)
            return UNUSUAL; /* it came late */
    }
    profile->has_session = 1;
    profile->session_id = event->session_id;
    profile->started_at_ms = profile->session_last_at_ms = at_ms;
    profile->session_count = 1;
    profile->session_first = profile->session_end = 0;
    profile->history_count = 0;
    return DONE;
}

/* A list of texts. */
static PyObject *
texts(const Span *from, int count)
{
    PyObject *list = PyList_New(count);
    for (int place = 0; list != NULL && place < count; place++) {
        PyObject *text = PyUnicode_DecodeUTF8((const char *)from[place].at, from[place].size, NULL);
        if (text == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, place, text);
    }
    return list;
}

/* Puts a product into the history and the session: the interaction. */
static PyObject *
touch(Profile *profile, PyTypeObject *type, PyObject *user_id, Span product, long kind, const Event *event, PyObject *bought)
{
    int in_session = (int)profile->history_count, before = profile->end - profile->first - in_session;
    int depth = in_session ? MAX_EARLIER : MAX_EARLIER_AT_START;
    if (depth > before)
        depth = before;
    PyObject *earlier = texts(&profile->products[profile->first + before - depth], depth);
    PyObject *session = NULL, *id = NULL, *fields = NULL, *made = NULL;
    if (earlier != NULL)
        session = texts(&profile->session_products[profile->session_first], profile->session_end - profile->session_first);
    if (session != NULL)
        id = PyUnicode_DecodeUTF8((const char *)product.at, product.size, NULL);
    if (id != NULL)
        fields = Py_BuildValue("(OOlLOOO)", user_id, id, kind, (long long)event->at_ms, session, earlier, bought);
    Py_XDECREF(earlier);
    Py_XDECREF(session);
    Py_XDECREF(id);
    if (fields != NULL) {
        PyObject *args = PyTuple_Pack(1, fields);
        made = args == NULL ? NULL : PyTuple_Type.tp_new(type, args, NULL);
        Py_XDECREF(args);
        Py_DECREF(fields);
    }
    if (profile->session_end - profile->session_first >= MAX_SESSION_PRODUCTS)
        profile->session_first++;
    profile->session_products[profile->session_end++] = product;
    if (profile->end - profile->first >= MAX_HISTORY)
        profile->first++;
    profile->products[profile->end++] = product;
    profile->touched++;
    if (in_session < MAX_HISTORY)
        profile->history_count++;
    return made;
}

static void
remove_line(Profile *profile, int place)
{
    memmove(&profile->lines[place], &profile->lines[place + 1], (profile->line_end - place - 1) * sizeof(Line));
    profile->line_end--;
}

static int
add_to_cart(Profile *profile, const Event *event)
{
    if (read_cart(profile) != DONE)
        return UNUSUAL;
    int place = 0;
    while (place < profile->line_end && !is_same(profile->lines[place].id, event->product))
        place++;
    Line *line = &profile->lines[place];
    if (place == profile->line_end) {
        *line = (Line){.id = event->product, .added_at_ms = (uint64_t)event->at_ms};
        profile->line_end++;
    }
    line->raw.size = 0;
    line->quantity += event->quantity ? event->quantity : 1;
    if (line->quantity > MAX_LINE_QUANTITY)
        line->quantity = MAX_LINE_QUANTITY;
    if (profile->line_end > MAX_CART_LINES)
        profile->line_first = profile->line_end - MAX_CART_LINES;
    return DONE;
}

static int
remove_from_cart(Profile *profile, const Event *event)
{
    if (read_cart(profile) != DONE)
        return UNUSUAL;
    for (int place = 0; place < profile->line_end; place++) {
        Line *line = &profile->lines[place];
        if ((int64_t)line->added_at_ms > event->at_ms || !is_same(line->id, event->product))
            continue;
        if (event->quantity == 0 || event->quantity >= line->quantity)
            remove_line(profile, place);
        else {
            line->quantity -= event->quantity;
            line->raw.size = 0;
        }
        break;
    }
    return DONE;
}

static int
clear_ordered(Profile *profile, const Event *event)
{
    if (read_cart(profile) != DONE)
        return UNUSUAL;
    for (int place = profile->line_end - 1; place >= 0; place--)
        for (int ordered = 0; ordered < event->ordered_count; ordered++)
            if ((int64_t)profile->lines[place].added_at_ms <= event->at_ms && is_same(profile->lines[place].id, event->ordered[ordered])) {
                remove_line(profile, place);
                break;
            }
    return DONE;
}

/* The other products bought last, the latest last. */
static PyObject *
bought_before(const Profile *profile, Span product)
{
    Span others[MAX_BOUGHT_LINKS + 1];
    int count = 0, first = profile->bought_count - MAX_BOUGHT_LINKS - 1;
    for (int place = first > 0 ? first : 0; place < profile->bought_count; place++)
        if (!is_same(profile->bought[place], product))
            others[count++] = profile->bought[place];
    int excess = count > MAX_BOUGHT_LINKS ? count - MAX_BOUGHT_LINKS : 0;
    PyObject *list = texts(others + excess, count - excess);
    PyObject *made = list == NULL ? NULL : PyList_AsTuple(list);
    Py_XDECREF(list);
    return made;
}

static void
move_purchases(Profile *profile, int to, int from)
{
    size_t count = profile->bought_count - (to < from ? from : to);
    memmove(&profile->bought[to], &profile->bought[from], count * sizeof(Span));
    memmove(&profile->bought_first[to], &profile->bought_first[from], count * sizeof(uint64_t));
    memmove(&profile->bought_last[to], &profile->bought_last[from], count * sizeof(uint64_t));
    memmove(&profile->bought_times[to], &profile->bought_times[from], count * sizeof(uint64_t));
}

static void
remember_purchase(Profile *profile, Span product, uint64_t at_ms)
{
    int place = 0;
    uint64_t first_ms = at_ms, times = 1;
    while (place < profile->bought_count && !is_same(profile->bought[place], product))
        place++;
    if (place < profile->bought_count) {
        first_ms = profile->bought_first[place];
        uint64_t last_ms = profile->bought_last[place];
        times = profile->bought_times[place] + 1;
        if (at_ms == first_ms || at_ms == last_ms)
            return;
        if (at_ms <= last_ms) {
            profile->bought_times[place] = times;
            if (at_ms < first_ms)
                profile->bought_first[place] = at_ms;
            return;
        }
        move_purchases(profile, place, place + 1);
        profile->bought_count--;
    }
    int low = 0, high = profile->bought_count;
    while (low < high) {
        int middle = (low + high) / 2;
        if (at_ms < profile->bought_last[middle])
            high = middle;
        else
            low = middle + 1;
    }
    profile->bought_count++;
    move_purchases(profile, low + 1, low);
    profile->bought[low] = product;
    profile->bought_first[low] = first_ms;
    profile->bought_last[low] = at_ms;
    profile->bought_times[low] = times;
    if (profile->bought_count > MAX_PURCHASES) {
        move_purchases(profile, 0, 1);
        profile->bought_count--;
    }
}

/* As their stamps are compared: by event time, and at the same time by event id. */
static int
is_later(const Held *one, const Held *other)
{
    if (one->at_ms != other->at_ms)
        return (int64_t)one->at_ms > (int64_t)other->at_ms;
    return compared(one->event_id, other->event_id) > 0;
}

static void
change_held(Profile *profile, const Held *change, int max_count)
{
    Held *held = profile->held;
    int place = 0;
    while (place < profile->held_count && compared(held[place].name, change->name) < 0)
        place++;
    if (place < profile->held_count && is_same(held[place].name, change->name)) {
        if (is_later(change, &held[place]))
            held[place] = *change;
        return;
    }
    memmove(&held[place + 1], &held[place], (profile->held_count - place) * sizeof(Held));
    held[place] = *change;
    if (profile->held_count++ < max_count)
        return;
    int least = 0;
    for (int other = 1; other < profile->held_count; other++)
        if (held[other].worth < held[least].worth || (held[other].worth == held[least].worth && is_later(&held[least], &held[other])))
            least = other;
    memmove(&held[least], &held[least + 1], (profile->held_count - least - 1) * sizeof(Held));
    profile->held_count--;
}

/* Changes the attributes or the consents. */
static int
change(Profile *profile, const Event *event)
{
    int is_consent = event->payload == CONSENTED, max_count = is_consent ? MAX_CONSENTS : MAX_ATTRIBUTES;
    if (read_held(profile, is_consent ? profile->consents : profile->attributes, is_consent, max_count) != DONE)
        return UNUSUAL;
    for (int place = 0; place < event->change_count; place++) {
        Held one = event->changes[place];
        one.at_ms = (uint64_t)event->at_ms;
        one.event_id = event->event_id;
        change_held(profile, &one, max_count);
    }
    return DONE;
}

static void
count_email(Profile *profile, int which, uint64_t at_ms)
{
    profile->has_email = 1;
    profile->email[which]++;
    if ((int64_t)profile->email[which + 2] < (int64_t)at_ms)
        profile->email[which + 2] = at_ms;
}

/* Appends the interaction; bought is taken. */
static int
interact(Profile *profile, PyTypeObject *type, PyObject *user_id, Span product, long kind, const Event *event, PyObject *bought,
         PyObject *interactions, int place)
{
    PyObject *one = bought == NULL ? NULL : touch(profile, type, user_id, product, kind, event, bought);
    Py_XDECREF(bought);
    if (one == NULL)
        return FAILED;
    PyTuple_SET_ITEM(interactions, place, one);
    return DONE;
}

static int
apply_payload(Profile *profile, const Event *event, PyTypeObject *type, PyObject *user_id, PyObject **interactions)
{
    int count = event->payload == ORDERED ? event->ordered_count : event->product.size && event->payload != REMOVED;
    int outcome = DONE;
    if (event->payload == OPENED)
        count_email(profile, 0, (uint64_t)event->at_ms);
    else if (event->payload >= CHANGED)
        outcome = change(profile, event);
    else {
        if (event->payload == CLICKED)
            count_email(profile, 1, (uint64_t)event->at_ms);
        outcome = join_session(profile, event);
    }
    if (outcome == DONE && event->payload == ADDED)
        outcome = add_to_cart(profile, event);
    else if (outcome == DONE && event->payload == REMOVED)
        outcome = remove_from_cart(profile, event);
    else if (outcome == DONE && event->payload == ORDERED && (outcome = clear_ordered(profile, event)) == DONE)
        outcome = read_purchases(profile);
    if (outcome != DONE)
        return outcome;
    if ((*interactions = PyTuple_New(count)) == NULL)
        return FAILED;
    if (event->payload == ORDERED) {
        for (int place = 0; place < count && outcome == DONE; place++) {
            Span product = event->ordered[place];
            PyObject *bought = bought_before(profile, product);
            remember_purchase(profile, product, (uint64_t)event->at_ms);
            outcome = interact(profile, type, user_id, product, PURCHASE, event, bought, *interactions, place);
        }
    }
    else if (count) {
        long kind = event->payload == VIEWED ? VIEW : event->payload == ADDED ? CART : EMAIL_CLICK;
        outcome = interact(profile, type, user_id, event->product, kind, event, PyTuple_New(0), *interactions, 0);
    }
    return outcome;
}

/* Writing ------------------------------------------------------------------------------------------------------------------------ */

static size_t
varint_size(uint64_t number)
{
    size_t size = 1;
    for (; number >= 0x80; number >>= 7)
        size++;
    return size;
}

static uint8_t *
put_varint(uint8_t *at, uint64_t number)
{
    for (; number >= 0x80; number >>= 7)
        *at++ = (uint8_t)(number | 0x80);
    *at++ = (uint8_t)number;
    return at;
}

/* A number that is not 0. */
static uint8_t *
put_number(uint8_t *at, uint32_t field, uint64_t number)
{
    return number ? put_varint(put_varint(at, field << 3 | VARINT), number) : at;
}

static uint8_t *
put_head(uint8_t *at, uint32_t field, size_t size)
{
    return put_varint(put_varint(at, field << 3 | SIZED), size);
}

static uint8_t *
put_raw(uint8_t *at, Span raw)
{
    if (raw.size)
        memcpy(at, raw.at, raw.size);
    return at + raw.size;
}

static uint8_t *
put_text(uint8_t *at, uint32_t field, Span text)
{
    return put_raw(put_head(at, field, text.size), text);
}

/* Sets the length of a message whose content was written after room for the longest head there could be. */
static uint8_t *
close_message(uint8_t *head, uint32_t field, uint8_t *content, uint8_t *end)
{
    uint8_t *begin = put_head(head, field, end - content);
    memmove(begin, content, end - content);
    return begin + (end - content);
}

#define HEAD_ROOM 12

static uint8_t *
put_session(uint8_t *at, const Profile *profile)
{
    uint8_t *content = at + HEAD_ROOM, *end = content;
    if (profile->session_id.size)
        end = put_text(end, 1, profile->session_id);
    end = put_number(end, 2, profile->started_at_ms);
    end = put_number(end, 3, profile->session_last_at_ms);
    end = put_number(end, 4, profile->session_count);
    for (int place = profile->session_first; place < profile->session_end; place++)
        end = put_text(end, 5, profile->session_products[place]);
    end = put_number(end, 6, profile->history_count);
    return close_message(at, 5, content, end);
}

/* Those that were packed, without the first ones, and the same number some times more. */
static uint8_t *
put_packed(uint8_t *at, uint32_t field, Span packed, int without, uint64_t number, int times)
{
    for (; without > 0; without--) {
        while (packed.size && *packed.at >= 0x80) {
            packed.at++;
            packed.size--;
        }
        packed.at++;
        packed.size--;
    }
    at = put_head(at, field, packed.size + times * varint_size(number));
    at = put_raw(at, packed);
    while (times--)
        at = put_varint(at, number);
    return at;
}

static uint8_t *
put_history(uint8_t *at, const Profile *profile, uint64_t at_ms, int kind)
{
    uint8_t *content = at + HEAD_ROOM, *end = content;
    for (int place = profile->first; place < profile->end; place++)
        end = put_text(end, 1, profile->products[place]);
    end = put_packed(end, 2, profile->times, profile->first, at_ms, profile->touched);
    end = put_packed(end, 3, profile->kinds, profile->first, kind, profile->touched);
    return close_message(at, 6, content, end);
}

static uint8_t *
put_cart(uint8_t *at, const Profile *profile, const Event *event)
{
    for (int place = profile->line_first; place < profile->line_end; place++) {
        const Line *line = &profile->lines[place];
        if (line->raw.size) {
            at = put_raw(at, line->raw);
            continue;
        }
        uint8_t *content = at + HEAD_ROOM, *end = content;
        if (line->id.size)
            end = put_text(end, 1, line->id);
        end = put_number(end, 2, line->quantity);
        end = put_number(end, 3, line->added_at_ms);
        if (event->payload == ADDED && event->has_price) {
            uint8_t *money = end + HEAD_ROOM, *last = put_number(money, 1, event->minor_units);
            if (event->currency.size)
                last = put_text(last, 2, event->currency);
            end = close_message(end, 4, money, last);
        }
        else
            end = put_raw(end, line->price);
        at = close_message(at, 7, content, end);
    }
    return at;
}

static uint8_t *
put_held(uint8_t *at, const Profile *profile, int is_consent)
{
    for (int place = 0; place < profile->held_count; place++) {
        const Held *held = &profile->held[place];
        if (held->raw.size) {
            at = put_raw(at, held->raw);
            continue;
        }
        uint8_t *content = at + HEAD_ROOM, *end = put_raw(put_text(content, 1, held->name), held->value);
        end = put_number(end, is_consent ? 3 : 5, held->at_ms);
        end = put_text(end, is_consent ? 4 : 6, held->event_id);
        at = close_message(at, is_consent ? 9 : 8, content, end);
    }
    return at;
}

static uint8_t *
put_purchases(uint8_t *at, const Profile *profile)
{
    const uint64_t *columns[] = {profile->bought_first, profile->bought_last, profile->bought_times};
    uint8_t *content = at + HEAD_ROOM, *end = content;
    for (int place = 0; place < profile->bought_count; place++)
        end = put_text(end, 1, profile->bought[place]);
    for (int list = 0; list < 3; list++) {
        uint8_t *numbers = end + HEAD_ROOM, *last = numbers;
        for (int place = 0; place < profile->bought_count; place++)
            last = put_varint(last, columns[list][place]);
        end = close_message(end, list + 2, numbers, last);
    }
    return close_message(at, 14, content, end);
}

static uint8_t *
put_recent(uint8_t *at, Span recent, uint64_t digest)
{
    if (recent.size == MAX_RECENT * DIGEST) {
        recent.at += DIGEST;
        recent.size -= DIGEST;
    }
    at = put_raw(put_head(at, 10, recent.size + DIGEST), recent);
    put_digest(at, digest);
    return at + DIGEST;
}

static PyObject *
encoded(const Profile *profile, const Event *event, uint64_t digest, size_t room)
{
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, room);
    if (bytes == NULL)
        return NULL;
    int kind = event->payload == VIEWED ? VIEW : event->payload == ADDED ? CART : event->payload == ORDERED ? PURCHASE : EMAIL_CLICK;
    uint8_t *begin = (uint8_t *)PyBytes_AS_STRING(bytes), *at = put_text(begin, 1, profile->user_id);
    at = put_number(at, 2, profile->first_at_ms);
    at = put_number(at, 3, profile->last_at_ms);
    at = put_number(at, 4, profile->event_count);
    if (profile->has_session)
        at = put_session(at, profile);
    at = profile->touched ? put_history(at, profile, (uint64_t)event->at_ms, kind) : put_raw(at, profile->history);
    at = profile->cart_is_read ? put_cart(at, profile, event) : put_raw(at, profile->cart);
    int changed = profile->held_is_read ? event->payload : 0;
    at = changed == CHANGED ? put_held(at, profile, 0) : put_raw(at, profile->attributes);
    at = changed == CONSENTED ? put_held(at, profile, 1) : put_raw(at, profile->consents);
    at = put_recent(at, profile->recent, digest);
    at = put_raw(at, profile->anonymous);
    if (profile->new_anonymous.size)
        at = put_text(at, 11, profile->new_anonymous);
    if (profile->has_email) {
        uint8_t *content = at + HEAD_ROOM, *end = content;
        for (int place = 0; place < 4; place++)
            end = put_number(end, place + 1, profile->email[place]);
        at = close_message(at, 12, content, end);
    }
    at = profile->purchases_are_read ? put_purchases(at, profile) : put_raw(at, profile->purchases);
    if ((size_t)(at - begin) > room)
        Py_FatalError("a folded profile is larger than it can be");
    _PyBytes_Resize(&bytes, at - begin);
    return bytes;
}

/* The function ------------------------------------------------------------------------------------------------------------------- */

static int
fold(Profile *profile, Span before, const Event *event, PyTypeObject *type, PyObject **bytes, PyObject **interactions)
{
    if (!read_profile(before, profile) || !is_same(profile->user_id, event->user_id))
        return UNUSUAL;
    int outcome = event->payload == CONSENTED ? DONE : look_at_consents(profile->consents);
    if (outcome != DONE)
        return outcome;
    uint64_t digest = digest_of(event->event_id), at_ms = (uint64_t)event->at_ms;
    uint8_t wanted[DIGEST];
    put_digest(wanted, digest);
    for (size_t place = 0; place < profile->recent.size; place += DIGEST)
        if (memcmp(profile->recent.at + place, wanted, DIGEST) == 0)
            return DUPLICATE;
    if (at_ms > profile->last_at_ms) {
        profile->last_at_ms = at_ms;
        if (profile->event_count == 0)
            profile->first_at_ms = at_ms;
    }
    else if (event->at_ms < (int64_t)profile->first_at_ms)
        profile->first_at_ms = at_ms;
    profile->event_count++;
    if (event->anonymous_id.size)
        remember_anonymous(profile, event->anonymous_id);
    PyObject *user_id = PyUnicode_DecodeUTF8((const char *)event->user_id.at, event->user_id.size, NULL);
    outcome = user_id == NULL ? FAILED : apply_payload(profile, event, type, user_id, interactions);
    Py_XDECREF(user_id);
    if (outcome == DONE) {
        /* What is there, the product at three places for each that was touched, what was changed, and heads and numbers. */
        size_t room = before.size + (size_t)(3 * profile->touched + 1) * (MAX_ID + 64) + 1024;
        for (int place = 0; place < event->change_count; place++)
            room += event->changes[place].value.size + MAX_FIELD_NAME + MAX_ID + 64;
        if ((*bytes = encoded(profile, event, digest, room)) == NULL)
            outcome = FAILED;
    }
    return outcome;
}

PyDoc_STRVAR(fold_doc,
"fold(profile, event, key, received_at_ms, interaction_type, /)\n--\n\n"
"The profile after the event, encoded as it was, and the interactions; True: the event is a duplicate; False: profiling is denied; None:\n"
"something is unusual, or the event breaks a rule: ask the Python.");

static PyObject *
fold_fold(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 5 || !PyBytes_CheckExact(args[0]) || !PyBytes_CheckExact(args[1]) || !PyBytes_CheckExact(args[2])
        || !PyLong_CheckExact(args[3]) || !PyType_Check(args[4]) || !PyType_IsSubtype((PyTypeObject *)args[4], &PyTuple_Type))
        Py_RETURN_NONE;
    Span spans[3];
    for (int place = 0; place < 3; place++)
        spans[place] = (Span){(const uint8_t *)PyBytes_AS_STRING(args[place]), (size_t)PyBytes_GET_SIZE(args[place])};
    long long received_at_ms = PyLong_AsLongLong(args[3]);
    if (PyErr_Occurred()) {
        PyErr_Clear();
        Py_RETURN_NONE;
    }
    Event event;
    if (!read_event(spans[1], spans[2], received_at_ms, &event))
        Py_RETURN_NONE;
    Profile profile;
    PyObject *bytes = NULL, *interactions = NULL, *made = NULL;
    int outcome = fold(&profile, spans[0], &event, (PyTypeObject *)args[4], &bytes, &interactions);
    if (outcome == DONE)
        made = PyTuple_Pack(2, bytes, interactions);
    Py_XDECREF(bytes);
    Py_XDECREF(interactions);
    if (outcome == FAILED && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
        PyErr_Clear(); /* a profile whose texts are none: the Python says so in its own way */
        outcome = UNUSUAL;
    }
    if (outcome == UNUSUAL)
        Py_RETURN_NONE;
    return outcome == DUPLICATE ? Py_NewRef(Py_True) : outcome == DENIED ? Py_NewRef(Py_False) : made;
}

static PyMethodDef methods[] = {
    {"fold", (PyCFunction)(void (*)(void))fold_fold, METH_FASTCALL, fold_doc},
    {NULL, NULL, 0, NULL},
};

static int
fold_exec(PyObject *module)
{
    return PyModule_AddIntConstant(module, "INTERFACE", INTERFACE);
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, fold_exec}, {0, NULL}};

static struct PyModuleDef fold_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_fold",
    .m_doc = "One event folded into a profile, compiled.",
    .m_size = 0,
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__fold(void)
{
    return PyModuleDef_Init(&fold_module);
}
