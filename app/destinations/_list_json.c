/* A list of recommendations as JSON, straight from the message it is kept as: what app/destinations/list_json.py says in Python, to the
 * last byte, several times as fast.
 *
 * It is optional. Where no compiler was at hand when Tidings was installed, the Python is used, and it says the same. Bytes that are no
 * RecommendationUpdate it leaves to the Python, by answering None.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <string.h>

/* What app/destinations/list_json.py expects; another number is that of an extension built from other sources. */
#define INTERFACE 2

enum { RECOMMENDATION = 6 };                   /* of an update */
enum { PRODUCT_ID = 1, SCORE = 2, REASON = 3 }; /* of a recommendation */
enum { VARINT = 0, EIGHT_BYTES = 1, SIZED = 2, FOUR_BYTES = 5 };

typedef struct {
    const uint8_t *at, *end;
} Message;

typedef struct {
    uint32_t number, type;
    Message content;  /* of a SIZED one, and the bytes of an EIGHT_BYTES one */
} Field;

typedef struct {
    char *text;
    size_t size, room;
} Text;

typedef struct {
    PyObject *reasons, *reason_of, *about;
    /* The scores that are left to be shown, as JSON, each with a comma or a bracket behind it. */
    const char *scores, *scores_end;
    Text shown, seen;
} Encoding;

/* Messages ----------------------------------------------------------------------------------------------------------------------- */

static int
read_varint(Message *message, uint64_t *value)
{
    *value = 0;
    for (int shift = 0; shift < 70 && message->at < message->end; shift += 7) {
        uint8_t byte = *message->at++;
        if (shift < 64)
            *value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return 1;
    }
    return 0;
}

/* The next field; 0: these bytes are no message. */
static int
read_field(Message *message, Field *field)
{
    uint64_t tag, size = 0;
    if (!read_varint(message, &tag) || tag >> 3 == 0 || tag >> 3 > UINT32_MAX)
        return 0;
    field->number = (uint32_t)(tag >> 3);
    field->type = (uint32_t)(tag & 7);
    switch (field->type) {
    case VARINT:
        return read_varint(message, &size);
    case EIGHT_BYTES:
        size = 8;
        break;
    case FOUR_BYTES:
        size = 4;
        break;
    case SIZED:
        if (!read_varint(message, &size))
            return 0;
        break;
    default:
        return 0;
    }
    if (size > (uint64_t)(message->end - message->at))
        return 0;
    field->content = (Message){message->at, message->at + size};
    message->at += size;
    return 1;
}

/* Text --------------------------------------------------------------------------------------------------------------------------- */

static int
have_room(Text *text, size_t more)
{
    if (text->room - text->size >= more)
        return 1;
    size_t room = text->room + text->room / 2 + more + 256;
    char *larger = PyMem_Realloc(text->text, room);
    if (larger == NULL) {
        PyErr_NoMemory();
        return 0;
    }
    text->text = larger;
    text->room = room;
    return 1;
}

static int
add(Text *text, const char *more, size_t size)
{
    if (!have_room(text, size))
        return 0;
    memcpy(text->text + text->size, more, size);
    text->size += size;
    return 1;
}

static int
add_literal(Text *text, const char *literal)
{
    return add(text, literal, strlen(literal));
}

/* UTF-8 as a JSON string, escaped where JSON asks for it and nowhere else. */
static int
add_string(Text *text, Message utf8)
{
    static const char hex[] = "0123456789abcdef";
    if (!have_room(text, 6 * (size_t)(utf8.end - utf8.at) + 2))
        return 0;
    char *out = text->text + text->size;
    *out++ = '"';
    for (const uint8_t *at = utf8.at; at < utf8.end; at++) {
        uint8_t c = *at;
        if (c >= 0x20 && c != '"' && c != '\\') {
            *out++ = (char)c;
            continue;
        }
        const char *known = "\"\"\\\\\bb\ff\nn\rr\tt", *found = known;
        while (found < known + 14 && (uint8_t)*found != c)
            found += 2;
        *out++ = '\\';
        if (found < known + 14) {
            *out++ = found[1];
        } else {
            memcpy(out, "u00", 3);
            out[3] = hex[c >> 4];
            out[4] = hex[c & 15];
            out += 5;
        }
    }
    *out++ = '"';
    text->size = (size_t)(out - text->text);
    return 1;
}

/* The next score. */
static int
add_score(Text *text, Encoding *encoding)
{
    const char *from = encoding->scores, *at = from;
    while (at < encoding->scores_end && *at != ',' && *at != ']')
        at++;
    if (at == from || at == encoding->scores_end) {
        PyErr_SetString(PyExc_ValueError, "as many numbers are wanted as there are scores");
        return 0;
    }
    encoding->scores = at + 1;
    return add(text, from, (size_t)(at - from));
}

static int
add_bytes(Text *text, PyObject *bytes)
{
    if (!PyBytes_Check(bytes)) {
        PyErr_SetString(PyExc_TypeError, "a piece of JSON is bytes");
        return 0;
    }
    return add(text, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
}

/* Recommendations ---------------------------------------------------------------------------------------------------------------- */

/* The reason's JSON, a new reference: from the dictionary, or of the function's making. */
static PyObject *
reason_json(const Encoding *encoding, Message reason)
{
    PyObject *key = PyBytes_FromStringAndSize((const char *)reason.at, reason.end - reason.at);
    if (key == NULL)
        return NULL;
    PyObject *known = PyDict_GetItemWithError(encoding->reasons, key);
    if (known != NULL)
        Py_INCREF(known);
    else if (!PyErr_Occurred())
        known = PyObject_CallOneArg(encoding->reason_of, key);
    Py_DECREF(key);
    return known;
}

/* The reason's own bytes, behind their length: where there is no catalog, they say all that its JSON does, in less. */
static int
add_raw(Text *text, Message reason)
{
    uint32_t size = (uint32_t)(reason.end - reason.at);
    char length[4] = {(char)size, (char)(size >> 8), (char)(size >> 16), (char)(size >> 24)};
    return add(text, length, sizeof length) && add(text, (const char *)reason.at, size);
}

static int
add_recommendation(Encoding *encoding, Message product_id, Message reason)
{
    Text *shown = &encoding->shown, *seen = &encoding->seen;
    if (shown->size && !add_literal(shown, ","))
        return 0;
    if (!add_literal(shown, "{\"product_id\":"))
        return 0;
    size_t id_from = shown->size;
    if (!add_string(shown, product_id) || !add(seen, shown->text + id_from, shown->size - id_from))
        return 0;
    if (!add_literal(shown, ",\"score\":") || !add_score(shown, encoding) || !add_literal(shown, ",\"reason\":"))
        return 0;
    PyObject *why = reason_json(encoding, reason);
    if (why == NULL)
        return 0;
    int added = add_bytes(shown, why) && (encoding->about == Py_None ? add_raw(seen, reason) : add_bytes(seen, why));
    Py_DECREF(why);
    if (added && encoding->about != Py_None) {
        PyObject *id = PyUnicode_DecodeUTF8((const char *)product_id.at, product_id.end - product_id.at, NULL);
        PyObject *about = id == NULL ? NULL : PyObject_CallOneArg(encoding->about, id);
        Py_XDECREF(id);
        added = about != NULL && add_bytes(shown, about) && add_bytes(seen, about);
        Py_XDECREF(about);
    }
    return added && add_literal(shown, "}");
}

/* 1: it is taken apart; -1: it is not what it should be. */
static int
read_recommendation(Message message, Message *product_id, Message *reason, double *score)
{
    static const uint8_t none;
    *product_id = *reason = (Message){&none, &none};
    *score = 0;
    Field field;
    int reasons = 0;
    while (message.at < message.end) {
        if (!read_field(&message, &field))
            return -1;
        if (field.number == PRODUCT_ID && field.type == SIZED) {
            *product_id = field.content;
        } else if (field.number == SCORE && field.type == EIGHT_BYTES) {
            uint64_t bits = 0;
            for (int byte = 7; byte >= 0; byte--)
                bits = bits << 8 | field.content.at[byte];
            memcpy(score, &bits, sizeof *score);
        } else if (field.number == REASON && field.type == SIZED) {
            *reason = field.content;
            if (reasons++)
                return -1; /* two would have to be merged */
        }
    }
    return 1;
}

/* The next recommendation's content; 0: there is none, -1: it is not what it should be. */
static int
next_recommendation(Message *update, Message *recommendation)
{
    Field field;
    while (update->at < update->end) {
        if (!read_field(update, &field))
            return -1;
        if (field.number == RECOMMENDATION && field.type == SIZED) {
            *recommendation = field.content;
            return 1;
        }
    }
    return 0;
}

/* All scores in a list; NULL: an exception is set, or, if `*taken` is -1, it is not what it should be. */
static PyObject *
scores_of(Message update, int *taken)
{
    PyObject *scores = PyList_New(0);
    Message recommendation, product_id, reason;
    double score;
    while (scores != NULL && (*taken = next_recommendation(&update, &recommendation)) == 1) {
        PyObject *number = NULL;
        if ((*taken = read_recommendation(recommendation, &product_id, &reason, &score)) == -1
            || (number = PyFloat_FromDouble(score)) == NULL || PyList_Append(scores, number) < 0)
            Py_CLEAR(scores);
        Py_XDECREF(number);
    }
    if (scores != NULL && *taken == -1)
        Py_CLEAR(scores);
    return scores;
}

/* 1: added; 0: an exception is set. The message was read before. */
static int
take_update(Encoding *encoding, Message update)
{
    Message recommendation, product_id, reason;
    double score;
    while (next_recommendation(&update, &recommendation) == 1) {
        read_recommendation(recommendation, &product_id, &reason, &score);
        if (!add_recommendation(encoding, product_id, reason))
            return 0;
    }
    return 1;
}

PyDoc_STRVAR(list_json_doc,
    "list_json(update, reasons, reason_of, about, numbers, /)\n--\n\n"
    "The recommendations of a serialized RecommendationUpdate as JSON objects with a comma between them, and what of them counts for the\n"
    "digest: ids, reasons and what is said about the products. A reason's JSON is in `reasons` under its serialized bytes, or what\n"
    "`reason_of` answers for these; `about` (None: nothing is said) answers bytes for a product's id, each field with a comma before it;\n"
    "`numbers` answers the JSON of a list of numbers, in bytes. None: these bytes are no such message.");

static PyObject *
list_json(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 5 || !PyBytes_Check(args[0]) || !PyDict_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "list_json(update: bytes, reasons: dict, reason_of, about, numbers)");
        return NULL;
    }
    const uint8_t *from = (const uint8_t *)PyBytes_AS_STRING(args[0]);
    Message update = {from, from + PyBytes_GET_SIZE(args[0])};
    int taken = 0;
    PyObject *scores = scores_of(update, &taken);
    if (scores == NULL) {
        if (taken == -1 && !PyErr_Occurred())
            Py_RETURN_NONE;
        return NULL;
    }
    PyObject *numbers = PyObject_CallOneArg(args[4], scores), *answer = NULL;
    Py_DECREF(scores);
    if (numbers == NULL)
        return NULL;
    if (!PyBytes_Check(numbers) || PyBytes_GET_SIZE(numbers) < 2) {
        Py_DECREF(numbers);
        PyErr_SetString(PyExc_TypeError, "a list of numbers as JSON is bytes");
        return NULL;
    }
    Encoding encoding = {
        .reasons = args[1], .reason_of = args[2], .about = args[3],
        .scores = PyBytes_AS_STRING(numbers) + 1, .scores_end = PyBytes_AS_STRING(numbers) + PyBytes_GET_SIZE(numbers),
    };
    if (take_update(&encoding, update))
        answer = Py_BuildValue("(y#y#)", encoding.shown.text ? encoding.shown.text : "", (Py_ssize_t)encoding.shown.size,
                               encoding.seen.text ? encoding.seen.text : "", (Py_ssize_t)encoding.seen.size);
    Py_DECREF(numbers);
    PyMem_Free(encoding.shown.text);
    PyMem_Free(encoding.seen.text);
    return answer;
}

static PyMethodDef methods[] = {
    {"list_json", (PyCFunction)(void (*)(void))list_json, METH_FASTCALL, list_json_doc},
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
    .m_name = "_list_json",
    .m_doc = "A list of recommendations as JSON.",
    .m_size = 0,
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__list_json(void)
{
    return PyModuleDef_Init(&definition);
}
