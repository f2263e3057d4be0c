/* Protobuf's wire format, for the extensions that read messages in place and write them: app/domain/wire.py, compiled.
 *
 * What is read is what a writer of ours would have written, and nothing else: whatever is not (fields out of order or of another type, a
 * field that is not known, a number that is longer than it need be, a list in two parts, text that is no UTF-8), is UNUSUAL, and left to
 * Protobuf itself.
 */

#ifndef TIDINGS_WIRE_H
#define TIDINGS_WIRE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <string.h>

/* Outcomes: a Python error is set; done; leave it to the Python. */
enum { FAILED = -1, DONE = 0, UNUSUAL = 1 };

#define VARINT(field) ((field) << 3)
#define DELIMITED(field) ((field) << 3 | 2)

typedef struct {
    const uint8_t *at, *end;
} Bytes;

static inline size_t
length_of(Bytes bytes)
{
    return (size_t)(bytes.end - bytes.at);
}

/* Reads a number as short as it can be written; 0: there is none. */
static inline int
read_varint(Bytes *from, uint64_t *number)
{
    if (from->at < from->end && *from->at < 0x80) { /* as mostly */
        *number = *from->at++;
        return 1;
    }
    *number = 0;
    for (int shift = 0; shift < 64 && from->at < from->end; shift += 7) {
        uint8_t byte = *from->at++;
        if (shift == 63 && byte > 1)
            return 0;
        *number |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return byte != 0;
    }
    return 0;
}

/* Reads what has its length before it. */
static inline int
read_delimited(Bytes *from, Bytes *value)
{
    uint64_t size;
    if (!read_varint(from, &size) || size > length_of(*from))
        return 0;
    value->at = from->at;
    value->end = from->at += size;
    return 1;
}

/* How many numbers are packed in these bytes. */
static inline size_t
count_varints(Bytes packed)
{
    size_t count = 0;
    for (const uint8_t *at = packed.at; at < packed.end; at++)
        count += *at < 0x80;
    return count;
}

static inline size_t
varint_size(uint64_t number)
{
    size_t size = 1;
    while (number >>= 7)
        size++;
    return size;
}

static inline uint8_t *
write_varint(uint8_t *at, uint64_t number)
{
    for (; number >= 0x80; number >>= 7)
        *at++ = (uint8_t)(number | 0x80);
    *at++ = (uint8_t)number;
    return at;
}

static inline uint8_t *
write_bytes(uint8_t *at, const void *from, size_t size)
{
    if (size)
        memcpy(at, from, size);
    return at + size;
}

/* Whether it is UTF-8. */
static inline int
is_text(Bytes text)
{
    const uint8_t *at = text.at;
    uint64_t part;
    for (; text.end - at >= 8; at += 8) {
        memcpy(&part, at, 8);
        if (part & UINT64_C(0x8080808080808080))
            break;
    }
    while (at < text.end && *at < 0x80)
        at++;
    if (at == text.end)
        return 1;
    PyObject *decoded = PyUnicode_DecodeUTF8((const char *)text.at, (Py_ssize_t)length_of(text), NULL);
    if (decoded == NULL)
        PyErr_Clear();
    Py_XDECREF(decoded);
    return decoded != NULL;
}

/* Whether an id may be a key: there is one, and it does not begin as the keys that tables keep for themselves. */
static inline int
is_key(Bytes id)
{
    return id.at < id.end && !(length_of(id) >= 2 && id.at[0] == '_' && id.at[1] == '_');
}

static inline PyObject *
text_object(Bytes text)
{
    return PyUnicode_DecodeUTF8((const char *)text.at, (Py_ssize_t)length_of(text), NULL);
}

/* The bytes of a bytes object; 0: it is none. */
static inline int
bytes_of(PyObject *object, Bytes *bytes)
{
    if (!PyBytes_CheckExact(object))
        return 0;
    bytes->at = (const uint8_t *)PyBytes_AS_STRING(object);
    bytes->end = bytes->at + PyBytes_GET_SIZE(object);
    return 1;
}

static inline uint32_t
hash_of(const uint8_t *text, size_t size, uint64_t seed)
{
    uint64_t hash = seed ^ size, part = 0;
#define MIXED(part) (hash = (hash ^ (part)) * UINT64_C(0x9E3779B97F4A7C15), hash ^= hash >> 32)
    if (size < 8) {
        while (size)
            part = part << 8 | text[--size];
        MIXED(part);
        return (uint32_t)hash;
    }
    const uint8_t *last = text + size - 8;
    for (; text < last; text += 8) {
        memcpy(&part, text, 8);
        MIXED(part);
    }
    memcpy(&part, last, 8); /* some of it twice */
    MIXED(part);
#undef MIXED
    return (uint32_t)hash;
}

#endif
