/* Visits on their way from the events to the items, compiled: what OutgoingVisits (app/domain/visit_records.py) says in Python, to the last
 * byte, several times as fast.
 *
 * It is optional. Where no compiler was at hand when Tidings was installed, the Python is used, and it says the same. The columns of a
 * Visits message are written as they will be sent, number by number. Weights are rounded like Python's (half to even), and nothing is
 * fused or reordered (-ffp-contract=off in pyproject.toml).
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <math.h>
#include <stdint.h>
#include <string.h>

/* What app/domain/visit_records.py expects; another number is that of an extension built from other sources. */
#define INTERFACE 1

/* As in app/domain/visits.py and decay.py; the tests hold both to the same results. */
#define MAX_DISTANCE 5
#define MAX_CROSS_SESSION 4
#define CROSS_SESSION 0.3
#define BACKWARD 0.7
#define HALF_LIFE_MS (INT64_C(90) * 86400000)
#define WINDOW_MS (16 * HALF_LIFE_MS)
#define UNIT 1048576.0
#define PURCHASE 3
/* Kinds of interactions are below it. */
#define MAX_KINDS 16
/* Other products that a purchase may name; profiles give 5. */
#define MAX_BOUGHT 64

/* An interaction's places (app/domain/profile.py). */
enum { USER, PRODUCT, KIND, AT, SESSION, EARLIER, BOUGHT, FIELDS };

/* The lists of a Visits message, in the order of their numbers there. */
enum { OFFSETS, TIMES, WEIGHTS, USERS, CAUSED, COUNTS, LINKS, PRODUCTS, ITEMS, NEIGHBOURS, PURCHASES, BOUGHT_VISITS, BOUGHT_PLACES, LISTS };
static const uint8_t NUMBER[LISTS] = {2, 4, 6, 7, 8, 9, 11, 12, 13, 14, 18, 19, 20};

typedef struct {
    uint8_t *bytes;
    size_t size, room;
} Buffer;

/* What goes to one items partition. */
typedef struct {
    long partition;
    Buffer lists[LISTS];
    uint32_t visits, products;
    uint32_t *places; /* by product's number: its place in the message, plus 1; 0: none yet */
    uint32_t room;    /* of `places` */
} Columns;

typedef struct {
    size_t text; /* where in `texts` */
    uint32_t size, hash;
    uint32_t columns;
} Product;

typedef struct {
    PyObject_HEAD
    PyObject *home, *records;
    unsigned long source_partition;
    uint32_t max_visits, at_most;
    int64_t offset;
    double worth[MAX_KINDS]; /* NAN: no such kind */
    Columns *columns;
    uint32_t column_count;
    Product *products;
    uint32_t product_count, product_room;
    uint32_t *table; /* twice the room, open addressing: a product's number, plus 1 */
    Buffer texts;
} Outgoing;

static uint64_t seed; /* of this process, so that nobody outside can tell which ids collide */

/* Bytes -------------------------------------------------------------------------------------------------------------------------- */

static int
make_room(Buffer *buffer, size_t more)
{
    if (buffer->room - buffer->size >= more)
        return 0;
    size_t room = buffer->room ? buffer->room : 256;
    while (room - buffer->size < more)
        room *= 2;
    uint8_t *bytes = PyMem_Realloc(buffer->bytes, room);
    if (bytes == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    buffer->bytes = bytes;
    buffer->room = room;
    return 0;
}

/* Where there is room. */
static void
put_varint(Buffer *buffer, uint64_t number)
{
    uint8_t *at = buffer->bytes + buffer->size;
    for (; number >= 0x80; number >>= 7)
        *at++ = (uint8_t)(number | 0x80);
    *at++ = (uint8_t)number;
    buffer->size = at - buffer->bytes;
}

static int
add_number(Buffer *buffer, uint64_t number)
{
    if (make_room(buffer, 10) < 0)
        return -1;
    put_varint(buffer, number);
    return 0;
}

static int
add_bytes(Buffer *buffer, const void *bytes, size_t size)
{
    if (make_room(buffer, size) < 0)
        return -1;
    if (size)
        memcpy(buffer->bytes + buffer->size, bytes, size);
    buffer->size += size;
    return 0;
}

/* A field with its length before it. */
static int
add_sized(Buffer *buffer, uint32_t number, const void *bytes, size_t size)
{
    return add_number(buffer, number << 3 | 2) < 0 || add_number(buffer, size) < 0 ? -1 : add_bytes(buffer, bytes, size);
}

/* Products ----------------------------------------------------------------------------------------------------------------------- */

static uint32_t
hash_of(const char *text, size_t size)
{
    uint64_t hash = seed ^ size, part;
    for (; size >= 8; text += 8, size -= 8) {
        memcpy(&part, text, 8);
        hash = (hash ^ part) * UINT64_C(0x9E3779B97F4A7C15);
        hash ^= hash >> 32;
    }
    part = 0;
    memcpy(&part, text, size);
    hash = (hash ^ part) * UINT64_C(0x9E3779B97F4A7C15);
    return (uint32_t)(hash ^ hash >> 32);
}

static int
grow(Outgoing *self)
{
    uint32_t room = self->product_room ? 2 * self->product_room : 256, mask = 2 * room - 1;
    Product *products = PyMem_Realloc(self->products, room * sizeof(Product));
    if (products != NULL)
        self->products = products;
    uint32_t *table = PyMem_Calloc(2 * (size_t)room, sizeof(uint32_t));
    if (products == NULL || table == NULL) {
        PyMem_Free(table);
        PyErr_NoMemory();
        return -1;
    }
    PyMem_Free(self->table);
    self->table = table;
    self->product_room = room;
    for (uint32_t number = 0; number < self->product_count; number++) {
        uint32_t slot = products[number].hash & mask;
        while (table[slot])
            slot = (slot + 1) & mask;
        table[slot] = number + 1;
    }
    return 0;
}

static int
columns_of(Outgoing *self, PyObject *product_id, uint32_t *place)
{
    PyObject *answer = PyObject_CallOneArg(self->home, product_id);
    if (answer == NULL)
        return -1;
    long partition = PyLong_AsLong(answer);
    Py_DECREF(answer);
    if (partition == -1 && PyErr_Occurred())
        return -1;
    for (*place = 0; *place < self->column_count; ++*place)
        if (self->columns[*place].partition == partition)
            return 0;
    Columns *columns = PyMem_Realloc(self->columns, (self->column_count + 1) * sizeof(Columns));
    if (columns == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    self->columns = columns;
    self->columns[self->column_count++] = (Columns){.partition = partition};
    return 0;
}

/* The product's number; a product that was not named yet gets the next. */
static int
number_of(Outgoing *self, PyObject *product_id, uint32_t *number)
{
    Py_ssize_t size;
    const char *text = PyUnicode_AsUTF8AndSize(product_id, &size);
    if (text == NULL)
        return -1;
    if (size > INT32_MAX) {
        PyErr_SetString(PyExc_OverflowError, "a product id is too long");
        return -1;
    }
    if (self->product_count == self->product_room && grow(self) < 0)
        return -1;
    uint32_t hash = hash_of(text, size), mask = 2 * self->product_room - 1, slot = hash & mask;
    for (; self->table[slot]; slot = (slot + 1) & mask) {
        *number = self->table[slot] - 1;
        const Product *product = &self->products[*number];
        if (product->hash == hash && product->size == size && memcmp(self->texts.bytes + product->text, text, size) == 0)
            return 0;
    }
    Product product = {.text = self->texts.size, .size = (uint32_t)size, .hash = hash};
    if (columns_of(self, product_id, &product.columns) < 0 || add_bytes(&self->texts, text, size) < 0)
        return -1;
    *number = self->product_count++;
    self->products[*number] = product;
    self->table[slot] = *number + 1;
    return 0;
}

/* The product's place in these columns; one that they do not name yet gets the next. */
static int
place_in(Outgoing *self, Columns *columns, uint32_t number, uint32_t *place)
{
    if (number >= columns->room) {
        uint32_t room = self->product_room;
        uint32_t *places = PyMem_Realloc(columns->places, room * sizeof(uint32_t));
        if (places == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        memset(places + columns->room, 0, (room - columns->room) * sizeof(uint32_t));
        columns->places = places;
        columns->room = room;
    }
    if (!columns->places[number]) {
        const Product *product = &self->products[number];
        if (add_sized(&columns->lists[PRODUCTS], NUMBER[PRODUCTS], self->texts.bytes + product->text, product->size) < 0)
            return -1;
        columns->places[number] = ++columns->products;
    }
    *place = columns->places[number] - 1;
    return 0;
}

/* Visits ------------------------------------------------------------------------------------------------------------------------- */

static int
add_visit(Outgoing *self, Columns *columns, uint32_t number, int64_t at_ms, uint64_t weight, uint32_t links)
{
    uint32_t place;
    if (place_in(self, columns, number, &place) < 0)
        return -1;
    columns->visits++;
    return add_number(&columns->lists[OFFSETS], (uint64_t)self->offset) < 0 || add_number(&columns->lists[ITEMS], place) < 0
            || add_number(&columns->lists[TIMES], (uint64_t)at_ms) < 0 || add_number(&columns->lists[WEIGHTS], weight) < 0
            || add_number(&columns->lists[COUNTS], links) < 0
        ? -1 : 0;
}

static int
add_link(Outgoing *self, Columns *columns, uint32_t number, uint64_t weight)
{
    uint32_t place;
    if (place_in(self, columns, number, &place) < 0)
        return -1;
    return add_number(&columns->lists[NEIGHBOURS], place) < 0 ? -1 : add_number(&columns->lists[LINKS], weight);
}

/* The product of the last visit added was bought by someone who bought this one. */
static int
add_bought(Outgoing *self, Columns *columns, uint32_t number)
{
    uint32_t place;
    if (place_in(self, columns, number, &place) < 0)
        return -1;
    return add_number(&columns->lists[BOUGHT_VISITS], columns->visits - 1) < 0 ? -1 : add_number(&columns->lists[BOUGHT_PLACES], place);
}

/* Of the distinct products that the person came from, nearest first. */
typedef struct {
    uint32_t number;
    uint64_t forward, backward;
} Link;

static double
growth_at(int64_t at_ms)
{
    int64_t since = at_ms % WINDOW_MS;
    volatile double base = 2.0; /* so that it is pow, as in Python, whatever the compiler knows of powers of two */
    return UNIT * pow(base, (double)(since < 0 ? since + WINDOW_MS : since) / (double)HALF_LIFE_MS);
}

static int
find_links(Outgoing *self, PyObject *interaction, double unit, uint32_t product, Link *links, int *count)
{
    PyObject *session = PyTuple_GET_ITEM(interaction, SESSION), *earlier = PyTuple_GET_ITEM(interaction, EARLIER);
    Py_ssize_t in_session = PyList_GET_SIZE(session), before = PyList_GET_SIZE(earlier);
    if (in_session > MAX_DISTANCE)
        in_session = MAX_DISTANCE;
    Py_ssize_t cross = MAX_DISTANCE - in_session < MAX_CROSS_SESSION ? MAX_DISTANCE - in_session : MAX_CROSS_SESSION;
    if (cross > before)
        cross = before;
    *count = 0;
    for (Py_ssize_t back = 0; back < in_session + cross; back++) {
        /* What answers for a product's home could change the lists. */
        PyObject *list = back < in_session ? session : earlier;
        Py_ssize_t place = PyList_GET_SIZE(list) - 1 - (back < in_session ? back : back - in_session);
        if (place < 0)
            break;
        uint32_t number;
        PyObject *previous = Py_NewRef(PyList_GET_ITEM(list, place));
        int found = number_of(self, previous, &number);
        Py_DECREF(previous);
        if (found < 0)
            return -1;
        if (number == product)
            continue;
        double link = (back < in_session ? unit : unit * CROSS_SESSION) / (double)(back + 1);
        int known = 0;
        while (known < *count && links[known].number != number)
            known++;
        if (known == *count)
            links[(*count)++] = (Link){.number = number};
        links[known].forward += (uint64_t)rint(link);
        links[known].backward += (uint64_t)rint(link * BACKWARD);
    }
    return 0;
}

static int
is_link(const Link *links, int count, uint32_t number)
{
    for (int place = 0; place < count; place++)
        if (links[place].number == number)
            return 1;
    return 0;
}

static int
is_among(const uint32_t *numbers, Py_ssize_t count, uint32_t number)
{
    for (Py_ssize_t place = 0; place < count; place++)
        if (numbers[place] == number)
            return 1;
    return 0;
}

/* What OutgoingVisits.add does in Python, step by step, for a product gets its place where it is first asked for. */
static int
add_interaction(Outgoing *self, PyObject *interaction, int64_t at_ms, int64_t caused_at_ms, long kind)
{
    double unit = growth_at(at_ms) * self->worth[kind];
    uint32_t product, bought[MAX_BOUGHT];
    Link links[MAX_DISTANCE];
    int count;
    PyObject *others = PyTuple_GET_ITEM(interaction, BOUGHT);
    Py_ssize_t other_count = PyTuple_GET_SIZE(others);
    if (number_of(self, PyTuple_GET_ITEM(interaction, PRODUCT), &product) < 0
        || find_links(self, interaction, unit, product, links, &count) < 0)
        return -1;
    for (Py_ssize_t place = 0; place < other_count; place++)
        if (number_of(self, PyTuple_GET_ITEM(others, place), &bought[place]) < 0)
            return -1;
    self->at_most += 1 + count;

    Columns *columns = &self->columns[self->products[product].columns];
    Py_ssize_t size;
    const char *user = PyUnicode_AsUTF8AndSize(PyTuple_GET_ITEM(interaction, USER), &size);
    if (user == NULL || add_sized(&columns->lists[USERS], NUMBER[USERS], user, size) < 0
        || add_number(&columns->lists[CAUSED], (uint64_t)caused_at_ms) < 0
        || add_visit(self, columns, product, at_ms, (uint64_t)rint(unit), count) < 0)
        return -1;
    if (kind == PURCHASE) {
        if (add_number(&columns->lists[PURCHASES], columns->visits - 1) < 0)
            return -1;
        for (Py_ssize_t place = 0; place < other_count; place++)
            if (add_bought(self, columns, bought[place]) < 0)
                return -1;
    }
    for (int place = 0; place < count; place++)
        if (add_link(self, columns, links[place].number, links[place].backward) < 0)
            return -1;
    for (int place = 0; place < count; place++) {
        uint32_t previous = links[place].number;
        columns = &self->columns[self->products[previous].columns];
        if (add_visit(self, columns, previous, at_ms, 0, 1) < 0 || add_link(self, columns, product, links[place].forward) < 0
            || (is_among(bought, other_count, previous) && add_bought(self, columns, product) < 0))
            return -1;
    }
    for (Py_ssize_t place = 0; place < other_count; place++) {
        if (is_link(links, count, bought[place]))
            continue;
        self->at_most++;
        columns = &self->columns[self->products[bought[place]].columns];
        if (add_visit(self, columns, bought[place], at_ms, 0, 0) < 0 || add_bought(self, columns, product) < 0)
            return -1;
    }
    return 0;
}

/* Records ------------------------------------------------------------------------------------------------------------------------ */

static void
clear_columns(Columns *columns)
{
    for (int list = 0; list < LISTS; list++)
        columns->lists[list].size = 0;
    if (columns->room)
        memset(columns->places, 0, columns->room * sizeof(uint32_t));
    columns->visits = columns->products = 0;
}

static PyObject *
encoded(const Outgoing *self, const Columns *columns)
{
    Buffer message = {0};
    int failed = self->source_partition && (add_number(&message, 1 << 3) < 0 || add_number(&message, self->source_partition) < 0);
    for (int list = 0; list < LISTS && !failed; list++) {
        const Buffer *numbers = &columns->lists[list];
        if (list == USERS || list == PRODUCTS)
            failed = add_bytes(&message, numbers->bytes, numbers->size) < 0; /* each text has its head */
        else if (numbers->size)
            failed = add_sized(&message, NUMBER[list], numbers->bytes, numbers->size) < 0;
    }
    PyObject *made = failed ? NULL : PyBytes_FromStringAndSize((const char *)message.bytes, message.size);
    PyMem_Free(message.bytes);
    return made;
}

static int
end_records(Outgoing *self, uint32_t min_visits)
{
    self->at_most = 0;
    for (uint32_t place = 0; place < self->column_count; place++) {
        Columns *columns = &self->columns[place];
        if (columns->visits < min_visits) {
            if (columns->visits > self->at_most)
                self->at_most = columns->visits;
            continue;
        }
        PyObject *value = encoded(self, columns), *record = value ? Py_BuildValue("lN", columns->partition, value) : NULL;
        int failed = record == NULL || PyList_Append(self->records, record) < 0;
        Py_XDECREF(record);
        if (failed)
            return -1;
        clear_columns(columns);
    }
    return 0;
}

/* The type ----------------------------------------------------------------------------------------------------------------------- */

static int
is_interaction(PyObject *one)
{
    if (!PyTuple_Check(one) || PyTuple_GET_SIZE(one) != FIELDS || !PyUnicode_Check(PyTuple_GET_ITEM(one, USER))
        || !PyUnicode_Check(PyTuple_GET_ITEM(one, PRODUCT)) || !PyLong_Check(PyTuple_GET_ITEM(one, KIND))
        || !PyLong_Check(PyTuple_GET_ITEM(one, AT)) || !PyList_Check(PyTuple_GET_ITEM(one, SESSION))
        || !PyList_Check(PyTuple_GET_ITEM(one, EARLIER)) || !PyTuple_Check(PyTuple_GET_ITEM(one, BOUGHT)))
        return 0;
    return PyTuple_GET_SIZE(PyTuple_GET_ITEM(one, BOUGHT)) <= MAX_BOUGHT;
}

PyDoc_STRVAR(add_doc,
"add(interaction, source_offset, caused_at_ms, /)\n--\n\n"
"The visits of one interaction. Offsets never go down. After an error nothing may be taken.");

static PyObject *
outgoing_add(Outgoing *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 3 || !is_interaction(args[0])) {
        PyErr_SetString(PyExc_TypeError, "add takes an interaction, its event's offset and when Kafka received it");
        return NULL;
    }
    long kind = PyLong_AsLong(PyTuple_GET_ITEM(args[0], KIND));
    long long at_ms = PyLong_AsLongLong(PyTuple_GET_ITEM(args[0], AT)), offset = PyLong_AsLongLong(args[1]);
    long long caused_at_ms = PyLong_AsLongLong(args[2]);
    if (PyErr_Occurred())
        return NULL;
    if (kind < 0 || kind >= MAX_KINDS || isnan(self->worth[kind])) {
        PyErr_SetObject(PyExc_KeyError, PyTuple_GET_ITEM(args[0], KIND));
        return NULL;
    }
    if (offset != self->offset) {
        self->offset = offset;
        if (self->at_most >= self->max_visits && end_records(self, self->max_visits) < 0)
            return NULL;
    }
    if (add_interaction(self, args[0], at_ms, caused_at_ms, kind) < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(take_doc,
"take()\n--\n\n"
"All records so far, each with the partition it goes to, those of one partition in their order.");

static PyObject *
outgoing_take(Outgoing *self, PyObject *Py_UNUSED(none))
{
    PyObject *fresh = PyList_New(0);
    if (fresh == NULL || end_records(self, 1) < 0) {
        Py_XDECREF(fresh);
        return NULL;
    }
    PyObject *records = self->records;
    self->records = fresh;
    return records;
}

static PyObject *
outgoing_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    unsigned long source_partition;
    unsigned int max_visits;
    PyObject *home, *worth, *kind, *weight;
    Py_ssize_t position = 0;
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs)) {
        PyErr_SetString(PyExc_TypeError, "OutgoingVisits takes no keywords");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "kIOO!", &source_partition, &max_visits, &home, &PyDict_Type, &worth))
        return NULL;
    Outgoing *self = (Outgoing *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->source_partition = source_partition;
    self->max_visits = max_visits;
    self->home = Py_NewRef(home);
    self->records = PyList_New(0);
    self->offset = -1;
    for (int place = 0; place < MAX_KINDS; place++)
        self->worth[place] = NAN;
    while (self->records != NULL && PyDict_Next(worth, &position, &kind, &weight)) {
        long place = PyLong_AsLong(kind);
        double number = PyFloat_AsDouble(weight);
        if (!PyErr_Occurred() && (place < 0 || place >= MAX_KINDS || !(number > 0.0 && number < 1e8)))
            PyErr_SetString(PyExc_ValueError, "kinds are small numbers, and their weights above 0");
        if (PyErr_Occurred())
            break;
        self->worth[place] = number;
    }
    if (PyErr_Occurred())
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void
outgoing_dealloc(Outgoing *self)
{
    PyTypeObject *type = Py_TYPE(self);
    for (uint32_t place = 0; place < self->column_count; place++) {
        for (int list = 0; list < LISTS; list++)
            PyMem_Free(self->columns[place].lists[list].bytes);
        PyMem_Free(self->columns[place].places);
    }
    PyMem_Free(self->columns);
    PyMem_Free(self->products);
    PyMem_Free(self->table);
    PyMem_Free(self->texts.bytes);
    Py_XDECREF(self->home);
    Py_XDECREF(self->records);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef outgoing_methods[] = {
    {"add", (PyCFunction)(void (*)(void))outgoing_add, METH_FASTCALL, add_doc},
    {"take", (PyCFunction)outgoing_take, METH_NOARGS, take_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(outgoing_doc,
"OutgoingVisits(source_partition, max_visits, home, kind_weights, /)\n--\n\n"
"What the events of one batch mean for the items, by items partition.");

static PyType_Slot outgoing_slots[] = {
    {Py_tp_doc, (void *)outgoing_doc},
    {Py_tp_new, outgoing_new},
    {Py_tp_dealloc, outgoing_dealloc},
    {Py_tp_methods, outgoing_methods},
    {0, NULL},
};

static PyType_Spec outgoing_spec = {
    .name = "app.domain._visits.OutgoingVisits",
    .basicsize = sizeof(Outgoing),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = outgoing_slots,
};

static int
visits_exec(PyObject *module)
{
    PyObject *text = PyUnicode_FromString("tidings");
    if (text == NULL)
        return -1;
    seed = (uint64_t)PyObject_Hash(text); /* differs from process to process */
    Py_DECREF(text);
    PyObject *type = PyType_FromModuleAndSpec(module, &outgoing_spec, NULL);
    int added = type == NULL ? -1 : PyModule_AddType(module, (PyTypeObject *)type);
    Py_XDECREF(type);
    return added < 0 ? -1 : PyModule_AddIntConstant(module, "INTERFACE", INTERFACE);
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, visits_exec}, {0, NULL}};

static struct PyModuleDef visits = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_visits",
    .m_doc = "Visits on their way, compiled.",
    .m_size = 0,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__visits(void)
{
    return PyModuleDef_Init(&visits);
}
