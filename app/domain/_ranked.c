/* A ranked list as bytes: what its digest is of, and the fields of an update that carry it. What app/domain/recommendations.py says in
 * Python, to the last byte, many times as fast.
 *
 * It is optional. Where no compiler was at hand when Tidings was installed, the Python is used, and it says the same. What is not as ranking
 * makes it (a list of Recommendation tuples) is left to the Python, by answering None.
 */

#include "_wire.h"

/* What app/domain/recommendations.py expects; another number is that of an extension built from other sources. */
#define INTERFACE 1

enum { RECOMMENDATIONS = 6 };                   /* of an update */
enum { PRODUCT_ID = 1, SCORE = 2, REASON = 3 }; /* of a recommendation */
enum { KIND = 1, BECAUSE_OF, TIMES_SEEN, TOGETHER, VISITS, CATEGORY, PRICE_BEFORE, PRICE_NOW, INTERVAL_DAYS, REASON_FIELDS = 9 };
enum { MINOR_UNITS = 1, CURRENCY_CODE = 2 }; /* of money */
#define EIGHT_BYTES(field) ((field) << 3 | 1)
/* In one byte; there are a dozen. */
#define MAX_KIND 127

typedef struct {
    uint8_t *bytes;
    size_t size, room;
} Text;

typedef struct {
    Bytes currency_code;
    int64_t minor_units;
    int is_there;
} Price;

typedef struct {
    Bytes product_id, because_of, category;
    double score;
    uint32_t kind, times_seen, together, visits, interval_days;
    Price before, now;
    PyObject *reason;
} Recommendation;

static uint8_t *
room_for(Text *text, size_t more)
{
    if (text->room - text->size < more) {
        size_t room = text->room + text->room / 2 + more + 512;
        uint8_t *larger = PyMem_Realloc(text->bytes, room);
        if (larger == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        text->bytes = larger;
        text->room = room;
    }
    return text->bytes + text->size;
}

/* What was ranked ---------------------------------------------------------------------------------------------------------------- */

static int
read_text(PyObject *object, Bytes *text)
{
    Py_ssize_t size;
    if (!PyUnicode_CheckExact(object))
        return UNUSUAL;
    const char *utf8 = PyUnicode_AsUTF8AndSize(object, &size);
    if (utf8 == NULL) {
        PyErr_Clear(); /* half a pair of surrogates: Python says so */
        return UNUSUAL;
    }
    *text = (Bytes){(const uint8_t *)utf8, (const uint8_t *)utf8 + size};
    return DONE;
}

static int
read_number(PyObject *object, uint32_t most, uint32_t *number)
{
    if (!PyLong_Check(object))
        return UNUSUAL;
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(object, &overflow);
    if (overflow || value < 0 || value > (long long)most)
        return UNUSUAL;
    *number = (uint32_t)value;
    return DONE;
}

static int
read_price(PyObject *object, Price *price)
{
    price->is_there = object != Py_None;
    if (!price->is_there)
        return DONE;
    if (!PyTuple_CheckExact(object) || PyTuple_GET_SIZE(object) != 2 || !PyLong_CheckExact(PyTuple_GET_ITEM(object, 0)))
        return UNUSUAL;
    int overflow;
    price->minor_units = PyLong_AsLongLongAndOverflow(PyTuple_GET_ITEM(object, 0), &overflow);
    return overflow ? UNUSUAL : read_text(PyTuple_GET_ITEM(object, 1), &price->currency_code);
}

static int
read_recommendation(PyObject *object, Recommendation *one)
{
    if (!PyTuple_Check(object) || PyTuple_GET_SIZE(object) != 3)
        return UNUSUAL;
    PyObject *score = PyTuple_GET_ITEM(object, 1), *reason = PyTuple_GET_ITEM(object, 2);
    if (!PyFloat_CheckExact(score) || !PyTuple_Check(reason) || PyTuple_GET_SIZE(reason) != REASON_FIELDS)
        return UNUSUAL;
    one->score = PyFloat_AS_DOUBLE(score);
    one->reason = reason;
#define FIELD(number) PyTuple_GET_ITEM(reason, (number) - 1)
    if (read_text(PyTuple_GET_ITEM(object, 0), &one->product_id) || read_number(FIELD(KIND), MAX_KIND, &one->kind)
        || read_text(FIELD(BECAUSE_OF), &one->because_of) || read_number(FIELD(TIMES_SEEN), UINT32_MAX, &one->times_seen)
        || read_number(FIELD(TOGETHER), UINT32_MAX, &one->together) || read_number(FIELD(VISITS), UINT32_MAX, &one->visits)
        || read_text(FIELD(CATEGORY), &one->category) || read_price(FIELD(PRICE_BEFORE), &one->before)
        || read_price(FIELD(PRICE_NOW), &one->now) || read_number(FIELD(INTERVAL_DAYS), UINT32_MAX, &one->interval_days))
        return UNUSUAL;
#undef FIELD
    return DONE;
}

typedef int (*Append)(Text *text, const Recommendation *one);

/* What `append` makes of each, one after the other. */
static PyObject *
bytes_of_all(PyObject *list, Append append)
{
    if (!PyList_CheckExact(list))
        Py_RETURN_NONE;
    Text text = {0};
    int outcome = DONE;
    for (Py_ssize_t place = 0; place < PyList_GET_SIZE(list) && outcome == DONE; place++) {
        Recommendation one;
        outcome = read_recommendation(PyList_GET_ITEM(list, place), &one);
        if (outcome == DONE)
            outcome = append(&text, &one);
    }
    PyObject *made = outcome == DONE ? PyBytes_FromStringAndSize((const char *)text.bytes, (Py_ssize_t)text.size) : NULL;
    PyMem_Free(text.bytes);
    if (outcome == UNUSUAL)
        Py_RETURN_NONE;
    return made;
}

/* What a reader would see -------------------------------------------------------------------------------------------------------- */

static uint8_t *
write_decimal(uint8_t *at, uint32_t number)
{
    uint8_t digits[10];
    size_t count = 0;
    do
        digits[count++] = (uint8_t)('0' + number % 10);
    while (number /= 10);
    while (count)
        *at++ = digits[--count];
    return at;
}

/* What few reasons have, as Python writes a tuple. */
static PyObject *
written_rest(const Recommendation *one)
{
    PyObject *rest = PyTuple_Pack(4, PyTuple_GET_ITEM(one->reason, CATEGORY - 1), PyTuple_GET_ITEM(one->reason, PRICE_BEFORE - 1),
                                  PyTuple_GET_ITEM(one->reason, PRICE_NOW - 1), PyTuple_GET_ITEM(one->reason, INTERVAL_DAYS - 1));
    PyObject *written = rest == NULL ? NULL : PyObject_Repr(rest);
    Py_XDECREF(rest);
    return written;
}

static int
append_seen(Text *text, const Recommendation *one)
{
    uint8_t *at = room_for(text, length_of(one->product_id) + length_of(one->because_of) + 32);
    if (at == NULL)
        return FAILED;
    if (text->size)
        *at++ = 0x1e;
    at = write_bytes(at, one->product_id.at, length_of(one->product_id));
    *at++ = 0x1f;
    at = write_decimal(at, one->kind);
    *at++ = 0x1f;
    at = write_bytes(at, one->because_of.at, length_of(one->because_of));
    *at++ = 0x1f;
    at = write_decimal(at, one->times_seen);
    text->size = (size_t)(at - text->bytes);
    if (!length_of(one->category) && !one->before.is_there && !one->now.is_there && !one->interval_days)
        return DONE;
    PyObject *rest = written_rest(one);
    Bytes written;
    int outcome = rest == NULL ? FAILED : read_text(rest, &written);
    if (outcome == DONE && (at = room_for(text, length_of(written) + 1)) != NULL) {
        *at++ = 0x1f;
        at = write_bytes(at, written.at, length_of(written));
        text->size = (size_t)(at - text->bytes);
    } else if (outcome == DONE) {
        outcome = FAILED;
    }
    Py_XDECREF(rest);
    return outcome;
}

PyDoc_STRVAR(seen_doc, "seen(recommendations, /)\n--\n\nWhat the digest of a list of Recommendation tuples is of; None: leave it to Python.");

static PyObject *
seen(PyObject *module, PyObject *recommendations)
{
    return bytes_of_all(recommendations, append_seen);
}

/* The message -------------------------------------------------------------------------------------------------------------------- */

static size_t
number_size(uint64_t number)
{
    return number ? 1 + varint_size(number) : 0;
}

static size_t
sized(size_t size)
{
    return 1 + varint_size(size) + size;
}

static size_t
text_size(Bytes text)
{
    return text.at < text.end ? sized(length_of(text)) : 0;
}

static uint8_t *
write_number(uint8_t *at, int field, uint64_t number)
{
    if (!number)
        return at;
    *at++ = (uint8_t)VARINT(field);
    return write_varint(at, number);
}

static uint8_t *
write_head(uint8_t *at, int field, size_t size)
{
    *at++ = (uint8_t)DELIMITED(field);
    return write_varint(at, size);
}

static uint8_t *
write_text(uint8_t *at, int field, Bytes text)
{
    return text.at < text.end ? write_bytes(write_head(at, field, length_of(text)), text.at, length_of(text)) : at;
}

static size_t
price_size(Price price)
{
    return number_size((uint64_t)price.minor_units) + text_size(price.currency_code);
}

static uint8_t *
write_price(uint8_t *at, int field, Price price)
{
    if (!price.is_there)
        return at;
    at = write_head(at, field, price_size(price));
    return write_text(write_number(at, MINOR_UNITS, (uint64_t)price.minor_units), CURRENCY_CODE, price.currency_code);
}

static int
append_field(Text *text, const Recommendation *one)
{
    size_t reason = number_size(one->kind) + text_size(one->because_of) + number_size(one->times_seen) + number_size(one->together)
                    + number_size(one->visits) + text_size(one->category) + (one->before.is_there ? sized(price_size(one->before)) : 0)
                    + (one->now.is_there ? sized(price_size(one->now)) : 0) + number_size(one->interval_days);
    uint64_t score;
    memcpy(&score, &one->score, sizeof score);
    size_t whole = text_size(one->product_id) + (score ? 9 : 0) + sized(reason);
    uint8_t *at = room_for(text, sized(whole));
    if (at == NULL)
        return FAILED;
    at = write_text(write_head(at, RECOMMENDATIONS, whole), PRODUCT_ID, one->product_id);
    if (score) {
        *at++ = EIGHT_BYTES(SCORE);
        for (int byte = 0; byte < 8; byte++, score >>= 8)
            *at++ = (uint8_t)score;
    }
    at = write_head(at, REASON, reason);
    at = write_number(at, KIND, one->kind);
    at = write_text(at, BECAUSE_OF, one->because_of);
    at = write_number(at, TIMES_SEEN, one->times_seen);
    at = write_number(at, TOGETHER, one->together);
    at = write_number(at, VISITS, one->visits);
    at = write_text(at, CATEGORY, one->category);
    at = write_price(at, PRICE_BEFORE, one->before);
    at = write_price(at, PRICE_NOW, one->now);
    at = write_number(at, INTERVAL_DAYS, one->interval_days);
    text->size = (size_t)(at - text->bytes);
    return DONE;
}

PyDoc_STRVAR(fields_doc,
"fields(recommendations, /)\n--\n\nA list of Recommendation tuples as a RecommendationUpdate has it; None: leave it to Python.");

static PyObject *
fields(PyObject *module, PyObject *recommendations)
{
    return bytes_of_all(recommendations, append_field);
}

static PyMethodDef methods[] = {
    {"seen", seen, METH_O, seen_doc},
    {"fields", fields, METH_O, fields_doc},
    {NULL, NULL, 0, NULL},
};

static int
module_exec(PyObject *module)
{
    return PyModule_AddIntConstant(module, "INTERFACE", INTERFACE);
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, module_exec}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_ranked",
    .m_doc = "A ranked list as bytes.",
    .m_size = 0,
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__ranked(void)
{
    return PyModuleDef_Init(&definition);
}
