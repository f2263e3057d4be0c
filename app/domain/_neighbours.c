/* What the items answered to one person, compiled: what app/domain/held_neighbours.py says in Python, to the last byte.
 *
 * It is optional, and keeps to what is usual: see _wire.h. A person's lists are held as the bytes of their message, with the places in it
 * of each list, so that to write them is to copy them, and a list that is replaced is cut out.
 */

#include "_wire.h"

/* What app/domain/neighbour_work.py expects; another number is that of an extension built from other sources. */
#define INTERFACE 1

/* As in app/domain/held_neighbours.py. */
#define MAX_NEIGHBOUR_LISTS 12
#define MAX_SECOND_HOP_LISTS 15
#define ENOUGH_NEIGHBOURS 80
#define LAST_ANSWERS 5
#define MAX_QUESTIONS 5
/* As in app/domain/items.py. */
#define REPLY_NEIGHBOURS 20

/* Answers ------------------------------------------------------------------------------------------------------------------------- */

/* Fields of tidings.state.v1.NeighbourList. */
enum { PRODUCT_ID = 1, VISIT_COUNT, NEIGHBOUR_IDS, SCORES, COUNTS, PURCHASE_COUNT, BOUGHT_IDS, BOUGHT_COUNTS };

typedef struct {
    Bytes message, product_id;
    Bytes best[MAX_QUESTIONS];
    uint64_t visit_count;
    uint32_t neighbour_count;
    int is_canonical; /* as Protobuf itself would write it */
} List;

static int
are_varints(Bytes packed)
{
    uint64_t number;
    while (packed.at < packed.end)
        if (!read_varint(&packed, &number) || number > UINT32_MAX)
            return 0;
    return 1;
}

static int
read_list(Bytes message, List *list)
{
    *list = (List){.message = message, .product_id = {message.at, message.at}, .is_canonical = 1};
    Bytes from = message, value;
    uint64_t tag, last = 0, number;
    while (from.at < from.end) {
        if (!read_varint(&from, &tag))
            return UNUSUAL;
        if (tag < last || (tag == last && tag != DELIMITED(NEIGHBOUR_IDS) && tag != DELIMITED(BOUGHT_IDS)))
            list->is_canonical = 0;
        last = tag;
        if (tag == VARINT(VISIT_COUNT) || tag == VARINT(PURCHASE_COUNT)) {
            if (!read_varint(&from, &number))
                return UNUSUAL;
            if (tag == VARINT(VISIT_COUNT))
                list->visit_count = number;
            list->is_canonical &= number != 0;
            continue;
        }
        if (!read_delimited(&from, &value))
            return UNUSUAL;
        switch (tag) {
        case DELIMITED(PRODUCT_ID):
            list->product_id = value;
            list->is_canonical &= length_of(value) != 0;
            break;
        case DELIMITED(NEIGHBOUR_IDS):
            if (list->neighbour_count < MAX_QUESTIONS)
                list->best[list->neighbour_count] = value;
            list->neighbour_count++;
            break;
        case DELIMITED(BOUGHT_IDS):
            break;
        case DELIMITED(SCORES):
            if (length_of(value) % 4)
                return UNUSUAL;
            list->is_canonical &= length_of(value) != 0;
            continue;
        case DELIMITED(COUNTS):
        case DELIMITED(BOUGHT_COUNTS):
            if (!are_varints(value))
                return UNUSUAL;
            list->is_canonical &= length_of(value) != 0;
            continue;
        default:
            return UNUSUAL;
        }
        if (!is_text(value))
            return UNUSUAL;
    }
    return length_of(message) > INT32_MAX / 2 ? UNUSUAL : DONE;
}

typedef struct {
    PyObject_HEAD
    PyObject *value; /* the list lies in it */
    List list;
} Answer;

static PyTypeObject answer_type;

static void
answer_dealloc(PyObject *self)
{
    Py_XDECREF(((Answer *)self)->value);
    Py_TYPE(self)->tp_free(self);
}

static PyTypeObject answer_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "app.domain._neighbours.Answer",
    .tp_doc = "An item's answer: a NeighbourList, and what it says of itself.",
    .tp_basicsize = sizeof(Answer),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = answer_dealloc,
};

/* NULL without an error: something is unusual. */
static PyObject *
answer_of(PyObject *value, Bytes message)
{
    List list;
    if (read_list(message, &list) != DONE)
        return NULL;
    Answer *answer = PyObject_New(Answer, &answer_type);
    if (answer == NULL)
        return NULL;
    answer->value = Py_NewRef(value);
    answer->list = list;
    return (PyObject *)answer;
}

/* Lists that are held ------------------------------------------------------------------------------------------------------------- */

/* Fields of tidings.state.v1.UserNeighbours. */
enum { LISTS = 1, SECOND_HOP = 2 };

typedef struct {
    uint64_t visit_count;
    uint32_t at;      /* of the field: its tag, its length, the list */
    uint32_t size;    /* of the whole field */
    uint32_t head;    /* of the tag and the length */
    uint32_t id_at;   /* of the product id, in the field */
    uint32_t id_size;
    uint32_t neighbour_count;
} Entry;

typedef struct {
    PyObject_HEAD
    uint8_t *data;
    Entry *entries; /* those of the first hop first, and answered longest ago first */
    uint32_t size, room, first_hop, count, entry_room;
} Held;

static void
held_dealloc(PyObject *self)
{
    Held *held = (Held *)self;
    PyMem_Free(held->data);
    PyMem_Free(held->entries);
    Py_TYPE(self)->tp_free(self);
}

/* Where the product stands from `from` up to `to`; FAILED: nowhere. */
static int64_t
find(const Held *held, uint32_t from, uint32_t to, const uint8_t *id, size_t size)
{
    for (uint32_t place = from; place < to; place++) {
        const Entry *entry = &held->entries[place];
        if (entry->id_size == size && memcmp(held->data + entry->at + entry->id_at, id, size) == 0)
            return place;
    }
    return FAILED;
}

static void
cut_out(Held *held, uint32_t place)
{
    Entry gone = held->entries[place];
    memmove(held->data + gone.at, held->data + gone.at + gone.size, held->size - gone.at - gone.size);
    memmove(&held->entries[place], &held->entries[place + 1], (held->count - place - 1) * sizeof(Entry));
    held->size -= gone.size;
    held->count--;
    held->first_hop -= place < held->first_hop;
    for (; place < held->count; place++)
        held->entries[place].at -= gone.size;
}

/* As the last of its hop. */
static int
put_in(Held *held, uint8_t field, const List *list)
{
    size_t length = length_of(list->message);
    uint32_t head = 1 + (uint32_t)varint_size(length), size = head + (uint32_t)length;
    if (held->count == held->entry_room) {
        uint32_t room = held->entry_room + 4;
        Entry *made = PyMem_Realloc(held->entries, room * sizeof(Entry));
        if (made == NULL)
            goto fail;
        held->entries = made;
        held->entry_room = room;
    }
    if ((uint64_t)held->size + size > held->room) {
        uint64_t room = ((uint64_t)held->size + size) * 9 / 8;
        uint8_t *made = room > INT32_MAX ? NULL : PyMem_Realloc(held->data, room);
        if (made == NULL)
            goto fail;
        held->data = made;
        held->room = (uint32_t)room;
    }
    uint32_t place = field == LISTS ? held->first_hop : held->count;
    uint32_t at = place < held->count ? held->entries[place].at : held->size;
    memmove(held->data + at + size, held->data + at, held->size - at);
    memmove(&held->entries[place + 1], &held->entries[place], (held->count - place) * sizeof(Entry));
    held->size += size;
    held->count++;
    held->first_hop += field == LISTS;
    held->entries[place] = (Entry){
        .visit_count = list->visit_count,
        .at = at,
        .size = size,
        .head = head,
        .id_at = head + (uint32_t)(list->product_id.at - list->message.at),
        .id_size = (uint32_t)length_of(list->product_id),
        .neighbour_count = list->neighbour_count,
    };
    for (uint32_t later = place + 1; later < held->count; later++)
        held->entries[later].at += size;
    uint8_t *to = held->data + at;
    *to++ = (uint8_t)DELIMITED(field);
    write_bytes(write_varint(to, length), list->message.at, length);
    return DONE;
fail:
    PyErr_NoMemory();
    return FAILED;
}

/* 1: kept; 0: one as late is held already. */
static int
keep(Held *held, uint8_t field, const List *list, uint32_t bound)
{
    uint32_t from = field == LISTS ? 0 : held->first_hop, to = field == LISTS ? held->first_hop : held->count;
    int64_t place = find(held, from, to, list->product_id.at, length_of(list->product_id));
    if (place >= 0) {
        if (held->entries[place].visit_count >= list->visit_count)
            return 0;
        cut_out(held, (uint32_t)place);
    }
    else if (to - from >= bound)
        cut_out(held, from);
    return put_in(held, field, list) == DONE ? 1 : FAILED;
}

static const List *
list_of(PyObject *answer)
{
    if (Py_IS_TYPE(answer, &answer_type))
        return &((Answer *)answer)->list;
    PyErr_SetString(PyExc_TypeError, "an answer is wanted");
    return NULL;
}

PyDoc_STRVAR(held_keep_doc,
"keep(answer, /)\n--\n\nKeep the answer of an item that the person touched. False, and nothing changed, if an answer as late is held.");

static PyObject *
held_keep(PyObject *self, PyObject *answer)
{
    Held *held = (Held *)self;
    const List *list = list_of(answer);
    int kept = list != NULL ? keep(held, LISTS, list, MAX_NEIGHBOUR_LISTS) : FAILED;
    if (kept == FAILED)
        return NULL;
    if (kept) {
        int64_t place = find(held, held->first_hop, held->count, list->product_id.at, length_of(list->product_id));
        if (place >= 0)
            cut_out(held, (uint32_t)place);
    }
    return PyBool_FromLong(kept);
}

PyDoc_STRVAR(held_keep_second_hop_doc,
"keep_second_hop(answer, /)\n--\n\nThe same for what to_ask asked about; the item may have been touched meanwhile.");

static PyObject *
held_keep_second_hop(PyObject *self, PyObject *answer)
{
    Held *held = (Held *)self;
    const List *list = list_of(answer);
    if (list == NULL)
        return NULL;
    if (find(held, 0, held->first_hop, list->product_id.at, length_of(list->product_id)) >= 0)
        Py_RETURN_FALSE;
    int kept = keep(held, SECOND_HOP, list, MAX_SECOND_HOP_LISTS);
    return kept == FAILED ? NULL : PyBool_FromLong(kept);
}

PyDoc_STRVAR(held_to_ask_doc, "to_ask(answer, /)\n--\n\nThe products to ask for their neighbours now that this was answered.");

static PyObject *
held_to_ask(PyObject *self, PyObject *answer)
{
    const Held *held = (Held *)self;
    const List *list = list_of(answer);
    PyObject *asked = list != NULL ? PyList_New(0) : NULL;
    if (asked == NULL || list->neighbour_count >= REPLY_NEIGHBOURS)
        return asked;
    uint64_t known = 0;
    for (uint32_t place = held->first_hop; place > 0 && place + LAST_ANSWERS > held->first_hop; place--)
        known += held->entries[place - 1].neighbour_count;
    if (known >= ENOUGH_NEIGHBOURS)
        return asked;
    for (uint32_t rank = 0; rank < list->neighbour_count && rank < MAX_QUESTIONS; rank++) {
        if (find(held, 0, held->count, list->best[rank].at, length_of(list->best[rank])) >= 0)
            continue;
        PyObject *product_id = text_object(list->best[rank]);
        if (product_id == NULL || PyList_Append(asked, product_id) < 0)
            Py_CLEAR(asked);
        Py_XDECREF(product_id);
        if (asked == NULL)
            return NULL;
    }
    return asked;
}

static PyObject *
list_at(const Held *held, uint32_t place)
{
    const Entry *entry = &held->entries[place];
    return PyBytes_FromStringAndSize((const char *)held->data + entry->at + entry->head, entry->size - entry->head);
}

PyDoc_STRVAR(held_find_doc,
"find(product_id, in_second_hop, /)\n--\n\nThe list of a product, a serialised NeighbourList, also of those for the second hop, or not.");

static PyObject *
held_find(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    const Held *held = (Held *)self;
    Py_ssize_t size = 0;
    if (nargs != 2 || !PyUnicode_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "a product id, and whether the second hop counts, are wanted");
        return NULL;
    }
    const char *id = PyUnicode_AsUTF8AndSize(args[0], &size);
    int64_t place = FAILED;
    if (id != NULL)
        place = find(held, 0, args[1] == Py_True ? held->count : held->first_hop, (const uint8_t *)id, (size_t)size);
    else if (PyErr_ExceptionMatches(PyExc_UnicodeEncodeError))
        PyErr_Clear(); /* half a surrogate pair: nobody is called that */
    else
        return NULL;
    if (place < 0)
        Py_RETURN_NONE;
    return list_at(held, (uint32_t)place);
}

PyDoc_STRVAR(held_lists_doc, "lists()\n--\n\nThose of products that the person touched, answered longest ago first.");

static PyObject *
held_lists(PyObject *self, PyObject *ignored)
{
    const Held *held = (Held *)self;
    PyObject *lists = PyList_New(held->first_hop);
    for (uint32_t place = 0; lists != NULL && place < held->first_hop; place++) {
        PyObject *list = list_at(held, place);
        if (list == NULL)
            Py_CLEAR(lists);
        else
            PyList_SET_ITEM(lists, place, list);
    }
    return lists;
}

PyDoc_STRVAR(held_encode_doc, "encode()\n--\n\nA UserNeighbours message.");

static PyObject *
held_encode(PyObject *self, PyObject *ignored)
{
    const Held *held = (Held *)self;
    return PyBytes_FromStringAndSize((const char *)held->data, held->size);
}

static int
decode(Held *held, Bytes from)
{
    uint8_t field = LISTS;
    uint64_t tag;
    Bytes message;
    List list;
    while (from.at < from.end) {
        if (!read_varint(&from, &tag) || (tag != DELIMITED(LISTS) && tag != DELIMITED(SECOND_HOP)) || tag >> 3 < field
            || !read_delimited(&from, &message) || read_list(message, &list) != DONE || !list.is_canonical)
            return UNUSUAL;
        field = (uint8_t)(tag >> 3);
        uint32_t first = field == LISTS ? 0 : held->first_hop;
        if (find(held, first, held->count, list.product_id.at, length_of(list.product_id)) >= 0)
            return UNUSUAL;
        if (put_in(held, field, &list) != DONE)
            return FAILED;
    }
    return DONE;
}

PyDoc_STRVAR(held_decode_doc, "decode(value, /)\n--\n\nOf a UserNeighbours message; None: something is unusual, or wrong.");

static PyObject *
held_decode(PyObject *type, PyObject *value)
{
    Bytes bytes;
    if (!bytes_of(value, &bytes))
        Py_RETURN_NONE;
    Held *held = (Held *)((PyTypeObject *)type)->tp_alloc((PyTypeObject *)type, 0);
    if (held == NULL)
        return NULL;
    int outcome = decode(held, bytes);
    if (outcome == DONE)
        return (PyObject *)held;
    Py_DECREF(held);
    if (outcome == FAILED)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
held_sizeof(PyObject *self, PyObject *ignored)
{
    const Held *held = (Held *)self;
    return PyLong_FromSize_t(sizeof(Held) + held->room + held->entry_room * sizeof(Entry));
}

static PyMethodDef held_methods[] = {
    {"keep", held_keep, METH_O, held_keep_doc},
    {"keep_second_hop", held_keep_second_hop, METH_O, held_keep_second_hop_doc},
    {"to_ask", held_to_ask, METH_O, held_to_ask_doc},
    {"find", (PyCFunction)(void (*)(void))held_find, METH_FASTCALL, held_find_doc},
    {"lists", held_lists, METH_NOARGS, held_lists_doc},
    {"encode", held_encode, METH_NOARGS, held_encode_doc},
    {"decode", held_decode, METH_O | METH_CLASS, held_decode_doc},
    {"__sizeof__", held_sizeof, METH_NOARGS, "Bytes of memory, all of them."},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject held_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "app.domain._neighbours.Held",
    .tp_doc = "One person's lists, at work. Changed in place.",
    .tp_basicsize = sizeof(Held),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = held_dealloc,
    .tp_methods = held_methods,
};

/* Records ------------------------------------------------------------------------------------------------------------------------- */

/* Fields of tidings.internal.v1.Neighbours. */
enum { RECORD_LISTS = 2, USER_IDS, LIST_PLACES, CAUSED_AT_MS, ANSWERS_TO_QUESTIONS };

typedef struct {
    Bytes *lists;
    Bytes *users;
    PyObject **answers; /* of each list, once somebody gets it */
    size_t list_count, list_room, user_count, user_room;
    Bytes places, caused;
    uint64_t to_questions;
} Record;

static int
append(Bytes **array, size_t *count, size_t *room, Bytes one)
{
    if (*count == *room) {
        size_t wanted = *room ? 2 * *room : 64;
        Bytes *made = PyMem_Realloc(*array, wanted * sizeof(Bytes));
        if (made == NULL) {
            PyErr_NoMemory();
            return FAILED;
        }
        *array = made;
        *room = wanted;
    }
    (*array)[(*count)++] = one;
    return DONE;
}

static int
read_record(Bytes from, Record *record)
{
    uint64_t tag;
    Bytes value;
    int outcome = DONE;
    while (from.at < from.end && outcome == DONE) {
        if (!read_varint(&from, &tag))
            return UNUSUAL;
        if (tag == VARINT(ANSWERS_TO_QUESTIONS)) {
            if (!read_varint(&from, &record->to_questions) || record->to_questions > UINT32_MAX)
                return UNUSUAL;
            continue;
        }
        if (!read_delimited(&from, &value))
            return UNUSUAL;
        switch (tag) {
        case DELIMITED(RECORD_LISTS):
            outcome = append(&record->lists, &record->list_count, &record->list_room, value);
            break;
        case DELIMITED(USER_IDS):
            if (!is_key(value) || !is_text(value))
                return UNUSUAL;
            outcome = append(&record->users, &record->user_count, &record->user_room, value);
            break;
        case DELIMITED(LIST_PLACES):
            if (record->places.at != NULL)
                return UNUSUAL;
            record->places = value;
            break;
        case DELIMITED(CAUSED_AT_MS):
            if (record->caused.at != NULL)
                return UNUSUAL;
            record->caused = value;
            break;
        default:
            return UNUSUAL;
        }
    }
    if (outcome != DONE)
        return outcome;
    return count_varints(record->places) == record->user_count && count_varints(record->caused) == record->user_count
           && record->to_questions <= record->user_count ? DONE : UNUSUAL;
}

static int
fill(Record *record, PyObject *value, PyObject *rows)
{
    Bytes places = record->places, caused = record->caused;
    record->answers = PyMem_Calloc(record->list_count + 1, sizeof(PyObject *));
    if (record->answers == NULL) {
        PyErr_NoMemory();
        return FAILED;
    }
    for (size_t index = 0; index < record->user_count; index++) {
        uint64_t place, at_ms;
        if (!read_varint(&places, &place) || place >= record->list_count || !read_varint(&caused, &at_ms))
            return UNUSUAL;
        if (record->answers[place] == NULL && (record->answers[place] = answer_of(value, record->lists[place])) == NULL)
            return PyErr_Occurred() ? FAILED : UNUSUAL;
        Bytes user = record->users[index];
        PyObject *row = PyTuple_New(4), *key = PyBytes_FromStringAndSize((const char *)user.at, (Py_ssize_t)length_of(user));
        PyObject *when = PyLong_FromLongLong((int64_t)at_ms);
        if (row == NULL || key == NULL || when == NULL) {
            Py_XDECREF(row);
            Py_XDECREF(key);
            Py_XDECREF(when);
            return FAILED;
        }
        PyTuple_SET_ITEM(row, 0, key);
        PyTuple_SET_ITEM(row, 1, Py_NewRef(record->answers[place]));
        PyTuple_SET_ITEM(row, 2, when);
        PyTuple_SET_ITEM(row, 3, PyBool_FromLong(index >= record->user_count - record->to_questions));
        PyList_SET_ITEM(rows, (Py_ssize_t)index, row);
    }
    return places.at == places.end && caused.at == caused.end ? DONE : UNUSUAL;
}

PyDoc_STRVAR(read_replies_doc,
"read_replies(value, /)\n--\n\nOf a Neighbours message: of each reply the user's key, the answer, when the event that asked was received, and\n"
"whether it answers a question; None: something is unusual, or wrong.");

static PyObject *
read_replies(PyObject *module, PyObject *value)
{
    Bytes bytes;
    if (!bytes_of(value, &bytes))
        Py_RETURN_NONE;
    Record record = {0};
    PyObject *rows = NULL;
    int outcome = read_record(bytes, &record);
    if (outcome == DONE) {
        rows = PyList_New((Py_ssize_t)record.user_count);
        outcome = rows != NULL ? fill(&record, value, rows) : FAILED;
    }
    for (size_t place = 0; record.answers != NULL && place < record.list_count; place++)
        Py_XDECREF(record.answers[place]);
    PyMem_Free(record.answers);
    PyMem_Free(record.lists);
    PyMem_Free(record.users);
    if (outcome == DONE)
        return rows;
    Py_XDECREF(rows);
    if (outcome == FAILED)
        return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(read_answer_doc, "read_answer(value, /)\n--\n\nOf a NeighbourList; None: something is unusual, or wrong.");

static PyObject *
read_answer(PyObject *module, PyObject *value)
{
    Bytes bytes;
    PyObject *answer = bytes_of(value, &bytes) ? answer_of(value, bytes) : NULL;
    if (answer == NULL && !PyErr_Occurred())
        Py_RETURN_NONE;
    return answer;
}

static PyMethodDef methods[] = {
    {"read_replies", read_replies, METH_O, read_replies_doc},
    {"read_answer", read_answer, METH_O, read_answer_doc},
    {NULL, NULL, 0, NULL},
};

static int
neighbours_exec(PyObject *module)
{
    if (PyType_Ready(&answer_type) < 0 || PyModule_AddType(module, &held_type) < 0)
        return -1;
    return PyModule_AddIntConstant(module, "INTERFACE", INTERFACE);
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, neighbours_exec}, {0, NULL}};

static struct PyModuleDef neighbours = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_neighbours",
    .m_doc = "What the items answered to one person, compiled.",
    .m_size = 0,
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__neighbours(void)
{
    return PyModuleDef_Init(&neighbours);
}
