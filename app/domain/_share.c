/* What one interaction adds to a share, compiled: what learn_return (app/domain/reminders.py) and count_touch (trending.py) do in Python, to
 * the last bit, ten times as fast.
 *
 * It is optional. Where no compiler was at hand when Tidings was installed, the Python is used, and it does the same. What happens once in
 * hundreds of events (a block is closed or cut, the scale is brought back), and what is unusual, it leaves to the Python by answering None,
 * and has changed nothing then.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <math.h>
#include <stdint.h>
#include <string.h>

/* What app/domain/reminders.py and trending.py expect; another number is that of an extension built from other sources. */
#define INTERFACE 1

/* As in reminders.py and trending.py; the tests hold both to the same results. */
#define MAX_RANK 12
#define TIMES 3
#define LAGS 4
#define PER_RANK (TIMES * LAGS)
#define HISTORY_DEPTH 16
#define START_DEPTH 127
#define START_TIMES 4
#define HALF_LIFE_EVENTS 50000.0
#define MAX_SCALE 1048576.0
#define BLOCK_EVENTS 2500
#define MAX_OPEN_PRODUCTS 512
/* Products of a session: profiles give 30. */
#define MAX_SESSION 64

static const int FIRST_OF_BUCKET[] = {0, 1 * PER_RANK, 3 * PER_RANK, 6 * PER_RANK, 13 * PER_RANK};
static const int BUCKETS[MAX_RANK + 1] = {0, 0, 1, 2, 3, 3, 3, 3, 4, 4, 4, 4, 4};

enum { SCALE, SESSION_AVAILABLE, SESSION_HIT, HISTORY_AVAILABLE, HISTORY_HIT, START_AVAILABLE, START_HIT, SESSION_ONCE, HISTORY_ONCE, BLOCKS,
       EVENT_COUNT, PRODUCT_IDS, COUNTS, NAMES };
static const char *const NAME[NAMES] = {
    "scale", "session_available", "session_hit", "history_available", "history_hit", "start_available", "start_hit", "session_once",
    "history_once", "blocks", "event_count", "product_ids", "counts",
};
enum { SESSION_CELLS = 25 * PER_RANK, HISTORY_CELLS = 5 * TIMES, START_CELLS = 7 * START_TIMES };
static const int CELLS[] = {0, SESSION_CELLS, SESSION_CELLS, HISTORY_CELLS, HISTORY_CELLS, START_CELLS, START_CELLS};

typedef struct {
    PyObject *names[NAMES];
    double growth;
} State;

/* A product, to be told from others. */
typedef struct {
    const void *data;
    size_t size;
    uint32_t hash;
} Text;

/* Distinct products in the order in which they were named, and how often they were. */
typedef struct {
    int count;
    Text texts[START_DEPTH];
    uint8_t times[START_DEPTH];
    uint8_t table[256]; /* a place, plus 1; 0: free */
} Set;

static uint64_t seed; /* of this process, so that nobody outside can tell which ids collide */

/* Products ----------------------------------------------------------------------------------------------------------------------- */

/* 0: it is no text. */
static int
text_of(PyObject *id, Text *text)
{
    if (!PyUnicode_CheckExact(id) || PyUnicode_READY(id) < 0) {
        PyErr_Clear();
        return 0;
    }
    const uint8_t *bytes = PyUnicode_DATA(id);
    size_t size = PyUnicode_GET_LENGTH(id) * PyUnicode_KIND(id), left = size;
    uint64_t hash = seed ^ (size << 3 | PyUnicode_KIND(id)), part;
    text->data = bytes;
    text->size = size;
    for (; left >= 8; bytes += 8, left -= 8) {
        memcpy(&part, bytes, 8);
        hash = (hash ^ part) * UINT64_C(0x9E3779B97F4A7C15);
        hash ^= hash >> 32;
    }
    part = 0;
    memcpy(&part, bytes, left);
    hash = (hash ^ part) * UINT64_C(0x9E3779B97F4A7C15);
    text->hash = (uint32_t)(hash ^ hash >> 32);
    return 1;
}

/* Where the product's place stands in the table, or would. Texts of one length in bytes, but of two widths, have two hashes. */
static uint8_t *
slot_of(Set *set, const Text *text)
{
    uint8_t slot = (uint8_t)text->hash;
    for (; set->table[slot]; slot++) {
        const Text *other = &set->texts[set->table[slot] - 1];
        if (other->hash == text->hash && other->size == text->size && memcmp(other->data, text->data, text->size) == 0)
            break;
    }
    return &set->table[slot];
}

/* The last of the products, newest first. 0: there is something else among them. */
static int
fill(Set *set, PyObject *products, Py_ssize_t depth)
{
    Py_ssize_t count = PyList_GET_SIZE(products);
    if (depth > count)
        depth = count;
    set->count = 0;
    memset(set->table, 0, sizeof(set->table));
    for (Py_ssize_t back = 1; back <= depth; back++) {
        Text text;
        if (!text_of(PyList_GET_ITEM(products, count - back), &text))
            return 0;
        uint8_t *slot = slot_of(set, &text);
        if (!*slot) {
            set->texts[set->count] = text;
            set->times[set->count++] = 0;
            *slot = (uint8_t)set->count;
        }
        set->times[*slot - 1]++;
    }
    return 1;
}

/* The product's place; -1: it is not there. */
static int
place_of(Set *set, const Text *text)
{
    return *slot_of(set, text) - 1;
}

/* Reminders ---------------------------------------------------------------------------------------------------------------------- */

typedef struct {
    PyObject *object;
    Py_buffer buffer;
} Counts;

typedef struct {
    State *state;
    PyObject *reminders;
    double weight;
    Counts cells[START_HIT + 1];
    PyObject *session_once, *history_once;
} Learning;

static void
add(Counts *counts, int cell, double weight)
{
    float *at = (float *)counts->buffer.buf + cell;
    *at = (float)(*at + weight);
}

/* 0: an error is set. */
static int
add_once(PyObject *once, Py_ssize_t place, double weight)
{
    PyObject *sum = PyFloat_FromDouble(PyFloat_AS_DOUBLE(PyList_GET_ITEM(once, place)) + weight);
    return sum != NULL && PyList_SetItem(once, place, sum) == 0;
}

static int
log2_of(int rank)
{
    int log = 0;
    while (rank >>= 1)
        log++;
    return log;
}

static int
at_most(int number, int most)
{
    return number < most ? number : most;
}

/* How many distinct products back the newest had been touched before. */
static int
lag_of(PyObject *session, Set *set)
{
    /* Those between are the distinct ones that stand before its second place. */
    uint8_t seen[MAX_SESSION] = {0};
    int between = 0;
    for (Py_ssize_t place = PyList_GET_SIZE(session) - 2; place >= 0; place--) {
        Text text;
        int distinct = text_of(PyList_GET_ITEM(session, place), &text) ? place_of(set, &text) : -1;
        if (distinct <= 0)
            break;
        between += !seen[distinct];
        seen[distinct] = 1;
    }
    return between + 1 > 6 ? 0 : at_most(between + 1, LAGS - 1);
}

static int
learn_session(Learning *learning, PyObject *session, Set *set, const Text *product)
{
    int count = at_most(set->count, MAX_RANK), first = FIRST_OF_BUCKET[BUCKETS[count]], hit = place_of(set, product);
    if (set->count == PyList_GET_SIZE(session)) {
        if (hit >= 0 && hit < MAX_RANK)
            add(&learning->cells[SESSION_HIT], first + hit * PER_RANK, learning->weight);
        return add_once(learning->session_once, count, learning->weight);
    }
    int lag = set->times[0] > 1 ? lag_of(session, set) : 0;
    for (int place = 0; place < count; place++) {
        int cell = first + place * PER_RANK + lag + at_most(set->times[place] - 1, TIMES - 1) * LAGS;
        add(&learning->cells[SESSION_AVAILABLE], cell, learning->weight);
        if (place == hit)
            add(&learning->cells[SESSION_HIT], cell, learning->weight);
    }
    return 1;
}

static void
learn_start(Learning *learning, Set *set, const Text *product)
{
    int hit = place_of(set, product);
    for (int place = 0; place < set->count; place++) {
        int cell = log2_of(place + 1) * START_TIMES + at_most(set->times[place], START_TIMES) - 1;
        add(&learning->cells[START_AVAILABLE], cell, learning->weight);
        if (place == hit)
            add(&learning->cells[START_HIT], cell, learning->weight);
    }
}

static int
learn_history(Learning *learning, PyObject *earlier, Set *set, Set *session, const Text *product)
{
    Py_ssize_t depth = PyList_GET_SIZE(earlier) < HISTORY_DEPTH ? PyList_GET_SIZE(earlier) : HISTORY_DEPTH;
    int nothing_twice = set->count == depth, hit = place_of(set, product), rank = 0;
    for (int place = 0; place < set->count; place++) {
        if (place_of(session, &set->texts[place]) >= 0)
            continue;
        int cell = log2_of(++rank) * TIMES + at_most(set->times[place] - 1, TIMES - 1);
        if (!nothing_twice)
            add(&learning->cells[HISTORY_AVAILABLE], cell, learning->weight);
        if (place == hit)
            add(&learning->cells[HISTORY_HIT], cell, learning->weight);
    }
    return nothing_twice ? add_once(learning->history_once, rank, learning->weight) : 1;
}

/* A list of so many floats, owned; NULL: it is none. */
static PyObject *
once_of(Learning *learning, int name, Py_ssize_t count)
{
    PyObject *once = PyObject_GetAttr(learning->reminders, learning->state->names[name]);
    int fits = once != NULL && PyList_CheckExact(once) && PyList_GET_SIZE(once) == count;
    for (Py_ssize_t place = 0; fits && place < count; place++)
        fits = PyFloat_CheckExact(PyList_GET_ITEM(once, place));
    if (!fits)
        Py_CLEAR(once);
    return once;
}

/* Whatever is changed, at hand; 0: something is not as usual. */
static int
open_counts(Learning *learning)
{
    PyObject *scale = PyObject_GetAttr(learning->reminders, learning->state->names[SCALE]);
    int fits = scale != NULL && PyFloat_CheckExact(scale);
    if (fits)
        learning->weight = PyFloat_AS_DOUBLE(scale) * learning->state->growth;
    Py_XDECREF(scale);
    for (int name = SESSION_AVAILABLE; fits && name <= START_HIT; name++) {
        Counts *counts = &learning->cells[name];
        counts->object = PyObject_GetAttr(learning->reminders, learning->state->names[name]);
        fits = counts->object != NULL && PyObject_GetBuffer(counts->object, &counts->buffer, PyBUF_WRITABLE | PyBUF_FORMAT | PyBUF_ND) == 0
            && counts->buffer.itemsize == sizeof(float) && counts->buffer.len == CELLS[name] * (Py_ssize_t)sizeof(float)
            && counts->buffer.format != NULL && strcmp(counts->buffer.format, "f") == 0;
    }
    return fits && (learning->session_once = once_of(learning, SESSION_ONCE, MAX_RANK + 1)) != NULL
        && (learning->history_once = once_of(learning, HISTORY_ONCE, HISTORY_DEPTH + 1)) != NULL && learning->weight <= MAX_SCALE;
}

static void
close_counts(Learning *learning)
{
    for (int name = SESSION_AVAILABLE; name <= START_HIT; name++) {
        if (learning->cells[name].buffer.obj != NULL)
            PyBuffer_Release(&learning->cells[name].buffer);
        Py_XDECREF(learning->cells[name].object);
    }
    Py_XDECREF(learning->session_once);
    Py_XDECREF(learning->history_once);
}

/* 1: done; 0: it is unusual; -1: an error is set. */
static int
learn(Learning *learning, PyObject *session, PyObject *earlier, PyObject *product_id)
{
    Set touched, recent, before;
    Text product;
    int is_start = !PyList_GET_SIZE(session) && PyList_GET_SIZE(earlier);
    if (PyList_GET_SIZE(session) > MAX_SESSION || !text_of(product_id, &product) || !fill(&touched, session, MAX_SESSION)
        || !fill(&recent, earlier, HISTORY_DEPTH) || (is_start && !fill(&before, earlier, START_DEPTH)) || !open_counts(learning)) {
        PyErr_Clear();
        return 0;
    }
    PyObject *scale = PyFloat_FromDouble(learning->weight);
    int done = scale != NULL && PyObject_SetAttr(learning->reminders, learning->state->names[SCALE], scale) == 0;
    Py_XDECREF(scale);
    if (done && PyList_GET_SIZE(session))
        done = learn_session(learning, session, &touched, &product);
    if (done && is_start)
        learn_start(learning, &before, &product);
    if (done && PyList_GET_SIZE(earlier))
        done = learn_history(learning, earlier, &recent, &touched, &product);
    return done ? 1 : -1;
}

PyDoc_STRVAR(learn_return_doc,
"learn_return(reminders, session, earlier, product_id, /)\n--\n\n"
"What learn_return (app/domain/reminders.py) does: True; None: it is left to that.");

static PyObject *
share_learn_return(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 4 || !PyList_CheckExact(args[1]) || !PyList_CheckExact(args[2]))
        Py_RETURN_NONE;
    Learning learning = {.state = PyModule_GetState(module), .reminders = args[0]};
    int outcome = learn(&learning, args[1], args[2], args[3]);
    close_counts(&learning);
    if (outcome < 0)
        return NULL;
    return Py_NewRef(outcome ? Py_True : Py_None);
}

/* Trends ------------------------------------------------------------------------------------------------------------------------- */

/* Counts one touch in the open block: 1: done; 0: it is unusual; -1: an error is set. */
static int
count(State *state, PyObject *block, PyObject *ids, PyObject *counts, PyObject *events, PyObject *product_id)
{
    long event_count = PyLong_CheckExact(events) ? PyLong_AsLong(events) : -1;
    Py_ssize_t low = 0, high = PyList_CheckExact(ids) && PyList_CheckExact(counts) ? PyList_GET_SIZE(ids) : -1;
    if (event_count < 0 || event_count >= BLOCK_EVENTS || high < 0 || high != PyList_GET_SIZE(counts)) {
        PyErr_Clear();
        return 0;
    }
    while (low < high) {
        Py_ssize_t middle = (low + high) / 2;
        PyObject *other = PyList_GET_ITEM(ids, middle);
        if (!PyUnicode_CheckExact(other))
            return 0;
        if (PyUnicode_Compare(other, product_id) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    PyObject *one = NULL;
    if (low < PyList_GET_SIZE(ids) && PyUnicode_CheckExact(PyList_GET_ITEM(ids, low))
        && PyUnicode_Compare(PyList_GET_ITEM(ids, low), product_id) == 0) {
        PyObject *known = PyList_GET_ITEM(counts, low);
        long times = PyLong_CheckExact(known) ? PyLong_AsLong(known) : -1;
        if (times < 0 || times > BLOCK_EVENTS) {
            PyErr_Clear();
            return 0;
        }
        one = PyLong_FromLong(times + 1);
        if (one == NULL || PyList_SetItem(counts, low, one) < 0)
            return -1;
    }
    else {
        if (PyList_GET_SIZE(ids) >= MAX_OPEN_PRODUCTS)
            return 0;
        one = PyLong_FromLong(1);
        int failed = one == NULL || PyList_Insert(ids, low, product_id) < 0 || PyList_Insert(counts, low, one) < 0;
        Py_XDECREF(one);
        if (failed)
            return -1;
    }
    PyObject *more = PyLong_FromLong(event_count + 1);
    int failed = more == NULL || PyObject_SetAttr(block, state->names[EVENT_COUNT], more) < 0;
    Py_XDECREF(more);
    return failed ? -1 : 1;
}

PyDoc_STRVAR(count_touch_doc,
"count_touch(trending, product_id, /)\n--\n\n"
"What count_touch (app/domain/trending.py) does: True; None: it is left to that.");

static PyObject *
share_count_touch(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    State *state = PyModule_GetState(module);
    PyObject *blocks = nargs == 2 && PyUnicode_CheckExact(args[1]) ? PyObject_GetAttr(args[0], state->names[BLOCKS]) : NULL;
    PyObject *block = NULL, *ids = NULL, *counts = NULL, *events = NULL;
    int outcome = 0;
    if (blocks != NULL && PyList_CheckExact(blocks) && PyList_GET_SIZE(blocks)) {
        block = Py_NewRef(PyList_GET_ITEM(blocks, PyList_GET_SIZE(blocks) - 1));
        if ((ids = PyObject_GetAttr(block, state->names[PRODUCT_IDS])) != NULL
            && (counts = PyObject_GetAttr(block, state->names[COUNTS])) != NULL
            && (events = PyObject_GetAttr(block, state->names[EVENT_COUNT])) != NULL)
            outcome = count(state, block, ids, counts, events, args[1]);
    }
    if (outcome == 0)
        PyErr_Clear();
    Py_XDECREF(blocks);
    Py_XDECREF(block);
    Py_XDECREF(ids);
    Py_XDECREF(counts);
    Py_XDECREF(events);
    if (outcome < 0)
        return NULL;
    return Py_NewRef(outcome ? Py_True : Py_None);
}

/* The module --------------------------------------------------------------------------------------------------------------------- */

static PyMethodDef methods[] = {
    {"learn_return", (PyCFunction)(void (*)(void))share_learn_return, METH_FASTCALL, learn_return_doc},
    {"count_touch", (PyCFunction)(void (*)(void))share_count_touch, METH_FASTCALL, count_touch_doc},
    {NULL, NULL, 0, NULL},
};

static int
share_exec(PyObject *module)
{
    State *state = PyModule_GetState(module);
    for (int name = 0; name < NAMES; name++)
        if ((state->names[name] = PyUnicode_InternFromString(NAME[name])) == NULL)
            return -1;
    volatile double base = 2.0; /* so that it is pow, as in Python, whatever the compiler knows of powers of two */
    state->growth = pow(base, 1.0 / HALF_LIFE_EVENTS);
    PyObject *text = PyUnicode_FromString("tidings");
    if (text == NULL)
        return -1;
    seed = (uint64_t)PyObject_Hash(text); /* differs from process to process */
    Py_DECREF(text);
    return PyModule_AddIntConstant(module, "INTERFACE", INTERFACE);
}

static void
share_free(void *module)
{
    State *state = PyModule_GetState(module);
    for (int name = 0; state != NULL && name < NAMES; name++)
        Py_CLEAR(state->names[name]);
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, share_exec}, {0, NULL}};

static struct PyModuleDef share = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_share",
    .m_doc = "What one interaction adds to a share, compiled.",
    .m_size = sizeof(State),
    .m_methods = methods,
    .m_slots = slots,
    .m_free = share_free,
};

PyMODINIT_FUNC
PyInit__share(void)
{
    return PyModuleDef_Init(&share);
}
