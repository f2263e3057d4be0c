/* The ranking's inner loops, compiled: what app/domain/ranking_loops.py says in Python, to the last bit, several times as fast.
 *
 * It is optional. Where no compiler was at hand when Tidings was installed, the Python is used, and it says the same. So this file keeps
 * to what is usual: whatever is not (weights that are no finite numbers from 0 on, a neighbour that stands twice in one list, more products
 * or links than its bounds, bytes that are no NeighbourList), it leaves to the Python by answering None. The same sums must be made in the
 * same order with the same roundings: no reordering, no fused multiply-add (-ffp-contract=off in pyproject.toml).
 *
 * Products are told apart by their UTF-8, whose order is that of Python's text, so links that lie in a message need not become Python
 * objects: only the best do.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <float.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* What app/domain/kernel.py expects; another number is that of an extension built from other sources. */
#define INTERFACE 1

/* Products that one ranking may tell apart: the context, its neighbours and the neighbours of these, what was seen before, what trends. */
#define MAX_PRODUCTS 8192
#define FIRST_ROOM 256
/* Neighbours in a message: an answer has 20. */
#define MAX_LIST 256
/* Lists of links: the context's, and those of the second hop. */
#define MAX_CONTEXT 16
#define EXPANDED 10
/* With fewer linked products than this, the neighbours of the best come in, too, and count so much. */
#define ENOUGH_LINKED 60
#define SECOND_HOP 0.4

/* Outcomes of the functions below. */
enum { FAILED = -1, DONE = 0, UNUSUAL = 1 };

enum { IN_CONTEXT = 1, LINKED = 2, SEEN_NOW = 4, SEEN_BEFORE = 8, TRENDS = 16 };

typedef struct {
    const char *text; /* UTF-8, in `id` or in a message that is held */
    uint32_t size;
    uint32_t hash;
    PyObject *id;     /* owned; NULL until it is needed */
    double linked;    /* by links alone */
    double now, before, trend;
    double score;
    double strongest; /* the greatest link from the context, and the place of that product in it */
    int32_t cause;
    int32_t middle;   /* of a second hop that leads here, the product in between */
    int32_t list;     /* the last list that named it */
    int32_t next;     /* the one that was linked next; -1: none */
    uint32_t times;
    uint32_t flags;
} Product;

typedef struct {
    Product *products;
    int32_t count, room;
    int32_t *table;   /* twice the room, open addressing; -1: free */
    int32_t first_linked, last_linked, linked_count;
    PyObject *held[MAX_CONTEXT + EXPANDED]; /* what sources answered */
    int held_count;
} Ranking;

static uint64_t seed; /* of this process, so that nobody outside can tell which ids collide */

/* Products ----------------------------------------------------------------------------------------------------------------------- */

static uint64_t
mixed(uint64_t hash, uint64_t part)
{
    hash = (hash ^ part) * UINT64_C(0x9E3779B97F4A7C15);
    return hash ^ hash >> 32;
}

static uint32_t
hash_of(const char *text, size_t size)
{
    uint64_t hash = seed ^ size, part = 0;
    if (size < 8) {
        while (size)
            part = part << 8 | (uint8_t)text[--size];
        return (uint32_t)mixed(hash, part);
    }
    const char *last = text + size - 8;
    for (; text < last; text += 8) {
        memcpy(&part, text, 8);
        hash = mixed(hash, part);
    }
    memcpy(&part, last, 8); /* some of it twice */
    return (uint32_t)mixed(hash, part);
}

static int
grow(Ranking *ranking)
{
    int32_t room = ranking->room ? 2 * ranking->room : FIRST_ROOM;
    if (room > MAX_PRODUCTS)
        return UNUSUAL;
    Product *products = PyMem_Realloc(ranking->products, room * sizeof(Product));
    if (products == NULL) {
        PyErr_NoMemory();
        return FAILED;
    }
    ranking->products = products;
    int32_t *table = PyMem_Realloc(ranking->table, 2 * room * sizeof(int32_t));
    if (table == NULL) {
        PyErr_NoMemory();
        return FAILED;
    }
    ranking->table = table;
    ranking->room = room;
    uint32_t mask = 2 * room - 1;
    memset(table, 0xff, 2 * room * sizeof(int32_t));
    for (int32_t place = 0; place < ranking->count; place++) {
        uint32_t slot = products[place].hash & mask;
        while (table[slot] >= 0)
            slot = (slot + 1) & mask;
        table[slot] = place;
    }
    return DONE;
}

/* Where the product stands in the table: the slot of its place, or the free one where it would stand. */
static uint32_t
slot_of(const Ranking *ranking, uint32_t hash, const char *text, size_t size)
{
    uint32_t mask = 2 * ranking->room - 1, slot = hash & mask;
    for (; ranking->table[slot] >= 0; slot = (slot + 1) & mask) {
        const Product *product = &ranking->products[ranking->table[slot]];
        if (product->hash == hash && product->size == size && memcmp(product->text, text, size) == 0)
            break;
    }
    return slot;
}

/* The product's place, a new one if it was not named yet. `id` is the text as a Python object, if there is one. */
static int
place_of(Ranking *ranking, const char *text, size_t size, PyObject *id, int32_t *place)
{
    uint32_t hash = hash_of(text, size), slot = slot_of(ranking, hash, text, size);
    if (size > UINT32_MAX)
        return UNUSUAL;
    if ((*place = ranking->table[slot]) >= 0) {
        if (ranking->products[*place].id == NULL)
            ranking->products[*place].id = Py_XNewRef(id);
        return DONE;
    }
    if (ranking->count == ranking->room) {
        int outcome = grow(ranking);
        if (outcome != DONE)
            return outcome;
        slot = slot_of(ranking, hash, text, size);
    }
    *place = ranking->table[slot] = ranking->count;
    ranking->products[ranking->count++] = (Product){
        .text = text, .size = (uint32_t)size, .hash = hash, .id = Py_XNewRef(id), .cause = -1, .middle = -1, .list = -1, .next = -1,
    };
    return DONE;
}

/* The UTF-8 of an id; NULL: it is none. */
static const char *
text_of(PyObject *id, size_t *size)
{
    Py_ssize_t length = 0;
    const char *text = PyUnicode_CheckExact(id) ? PyUnicode_AsUTF8AndSize(id, &length) : NULL;
    *size = (size_t)length;
    if (text == NULL)
        PyErr_Clear(); /* half a surrogate pair: Python has an order for it, UTF-8 has no bytes */
    return text;
}

static int
place_of_id(Ranking *ranking, PyObject *id, int32_t *place)
{
    size_t size;
    const char *text = text_of(id, &size);
    return text != NULL ? place_of(ranking, text, size, id, place) : UNUSUAL;
}

/* The product's id as a Python object: borrowed. */
static PyObject *
id_of(Product *product)
{
    if (product->id == NULL)
        product->id = PyUnicode_DecodeUTF8(product->text, product->size, NULL);
    return product->id;
}

static int
is_better(double score, const Product *one, double than, const Product *other)
{
    if (score != than)
        return score > than;
    size_t shorter = one->size < other->size ? one->size : other->size;
    int order = memcmp(one->text, other->text, shorter);
    return order ? order < 0 : one->size < other->size;
}

/* Insert a place among the best so far, best first, ties by id. */
static void
insert(const Ranking *ranking, size_t score_offset, int32_t place, int32_t *best, int32_t *count, int32_t limit)
{
#define SCORE(product) (*(const double *)((const char *)(product) + score_offset))
    const Product *products = ranking->products, *one = &products[place];
    double score = SCORE(one);
    int32_t low = 0, high = *count;
    if (high == limit && !is_better(score, one, SCORE(&products[best[high - 1]]), &products[best[high - 1]]))
        return;
    while (low < high) {
        int32_t middle = (low + high) / 2;
        const Product *other = &products[best[middle]];
        if (is_better(score, one, SCORE(other), other))
            high = middle;
        else
            low = middle + 1;
    }
    if (*count < limit)
        ++*count;
    memmove(best + low + 1, best + low, (*count - 1 - low) * sizeof(int32_t));
    best[low] = place;
#undef SCORE
}

/* Links -------------------------------------------------------------------------------------------------------------------------- */

/* The list of one product: `list` is its number; `middle` is -1 in the first hop, where `list` is the place in the context as well. */
typedef struct {
    double factor;
    int32_t list, context, middle;
} From;

static int
is_usual(double number)
{
    return number >= 0.0 && number <= DBL_MAX;
}

static int
add_link(Ranking *ranking, From from, const char *text, size_t size, PyObject *id, double weight)
{
    int32_t place;
    int outcome = id != NULL ? place_of_id(ranking, id, &place) : place_of(ranking, text, size, NULL, &place);
    if (outcome != DONE)
        return outcome;
    Product *product = &ranking->products[place];
    if (!is_usual(weight) || product->list == from.list)
        return UNUSUAL;
    product->list = from.list;
    if (from.middle >= 0 && product->flags & IN_CONTEXT)
        return DONE; /* the second hop does not lead back */
    double score = from.factor * weight;
    if (product->flags & LINKED)
        product->linked += score;
    else {
        product->linked = score;
        product->flags |= LINKED;
        if (ranking->last_linked >= 0)
            ranking->products[ranking->last_linked].next = place;
        else
            ranking->first_linked = place;
        ranking->last_linked = place;
        ranking->linked_count++;
    }
    if (from.middle < 0) {
        if (score > product->strongest) {
            product->strongest = score;
            product->cause = from.context;
        }
    }
    else if (product->middle < 0 && score > 0.0)
        product->middle = from.middle;
    return DONE;
}

static int
add_dict(Ranking *ranking, From from, PyObject *links)
{
    PyObject *id, *weight;
    Py_ssize_t position = 0;
    while (PyDict_Next(links, &position, &id, &weight)) {
        int outcome = PyFloat_CheckExact(weight) ? add_link(ranking, from, NULL, 0, id, PyFloat_AS_DOUBLE(weight)) : UNUSUAL;
        if (outcome != DONE)
            return outcome;
    }
    return DONE;
}

/* Reads a Protobuf varint; 0: there is none. */
static int
read_varint(const uint8_t **at, const uint8_t *end, uint64_t *number)
{
    if (*at < end && **at < 0x80) { /* as mostly */
        *number = *(*at)++;
        return 1;
    }
    *number = 0;
    for (int shift = 0; shift < 64 && *at < end; shift += 7) {
        uint8_t byte = *(*at)++;
        *number |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return 1;
    }
    return 0;
}

/* Reads the next field of a Protobuf message: its tag, and its bytes if it is delimited by a length; 0: the bytes are none. */
static int
read_field(const uint8_t **at, const uint8_t *end, uint64_t *tag, const uint8_t **value, size_t *size)
{
    uint64_t number;
    if (!read_varint(at, end, tag))
        return 0;
    *value = *at;
    switch (*tag & 7) {
    case 0:
        return read_varint(at, end, &number);
    case 1:
        number = 8;
        break;
    case 2:
        if (!read_varint(at, end, &number))
            return 0;
        break;
    case 5:
        number = 4;
        break;
    default:
        return 0;
    }
    if (number > (uint64_t)(end - *at))
        return 0;
    *value = *at;
    *size = (size_t)number;
    *at += number;
    return 1;
}

#define DELIMITED(field) ((field) << 3 | 2)
enum { NEIGHBOUR_IDS = 3, SCORES = 4 }; /* fields of tidings.state.v1.NeighbourList */

static int
add_message(Ranking *ranking, From from, const uint8_t *at, size_t length)
{
    const uint8_t *end = at + length, *value, *scores = NULL;
    struct { const uint8_t *text; size_t size; } ids[MAX_LIST];
    uint64_t tag;
    size_t size = 0, id_count = 0, count = 0;
    while (at < end) {
        if (!read_field(&at, end, &tag, &value, &size))
            return UNUSUAL;
        if (tag == DELIMITED(NEIGHBOUR_IDS)) {
            if (id_count == MAX_LIST)
                return UNUSUAL;
            ids[id_count].text = value;
            ids[id_count++].size = size;
        }
        else if (tag == DELIMITED(SCORES)) {
            if (scores != NULL || size % 4)
                return UNUSUAL;
            scores = value;
            count = size / 4;
        }
        else if (tag >> 3 == NEIGHBOUR_IDS || tag >> 3 == SCORES)
            return UNUSUAL;
    }
    if (count > id_count)
        count = id_count;
    for (size_t index = 0; index < count; index++, scores += 4) {
        uint32_t bits = scores[0] | (uint32_t)scores[1] << 8 | (uint32_t)scores[2] << 16 | (uint32_t)scores[3] << 24;
        float weight;
        memcpy(&weight, &bits, 4);
        int outcome = add_link(ranking, from, (const char *)ids[index].text, ids[index].size, NULL, weight);
        if (outcome != DONE)
            return outcome;
    }
    return DONE;
}

/* Ask the source for a product's links: None, or a tuple of a factor and links, which is held until the ranking is made. */
static int
ask(Ranking *ranking, PyObject *source, PyObject *product_id, double *factor, PyObject **links)
{
    *links = NULL;
    PyObject *found = PyObject_CallOneArg(source, product_id);
    if (found == NULL)
        return FAILED;
    if (found == Py_None) {
        Py_DECREF(found);
        return DONE;
    }
    ranking->held[ranking->held_count++] = found;
    if (!PyTuple_CheckExact(found) || PyTuple_GET_SIZE(found) != 2 || !PyFloat_CheckExact(PyTuple_GET_ITEM(found, 0)))
        return UNUSUAL;
    *factor = PyFloat_AS_DOUBLE(PyTuple_GET_ITEM(found, 0));
    *links = PyTuple_GET_ITEM(found, 1);
    return DONE;
}

static int
add_links(Ranking *ranking, From from, PyObject *links)
{
    if (!is_usual(from.factor))
        return UNUSUAL;
    if (PyDict_CheckExact(links))
        return add_dict(ranking, from, links);
    if (PyBytes_CheckExact(links))
        return add_message(ranking, from, (const uint8_t *)PyBytes_AS_STRING(links), (size_t)PyBytes_GET_SIZE(links));
    return UNUSUAL;
}

static int
follow_links(Ranking *ranking, PyObject *context, PyObject *worth, PyObject *source)
{
    Py_ssize_t length = PyTuple_GET_SIZE(context);
    int32_t list = 0, place;
    double factor;
    PyObject *links;
    int outcome;
    for (Py_ssize_t rank = 0; rank < length; rank++) {
        if ((outcome = place_of_id(ranking, PyTuple_GET_ITEM(context, rank), &place)) != DONE)
            return outcome;
        ranking->products[place].flags |= IN_CONTEXT;
    }
    for (Py_ssize_t rank = 0; rank < length; rank++) {
        if ((outcome = ask(ranking, source, PyTuple_GET_ITEM(context, rank), &factor, &links)) != DONE)
            return outcome;
        if (links == NULL)
            continue;
        From from = {factor * PyFloat_AS_DOUBLE(PyTuple_GET_ITEM(worth, rank)), list++, (int32_t)rank, -1};
        if ((outcome = add_links(ranking, from, links)) != DONE)
            return outcome;
    }
    if (ranking->linked_count == 0 || ranking->linked_count >= ENOUGH_LINKED)
        return DONE;
    int32_t best[EXPANDED + 1], count = 0, expanded = 0;
    for (place = ranking->first_linked; place >= 0; place = ranking->products[place].next)
        insert(ranking, offsetof(Product, linked), place, best, &count, EXPANDED);
    From froms[EXPANDED];
    PyObject *all_links[EXPANDED];
    for (int32_t which = 0; which < count; which++) {
        PyObject *id = id_of(&ranking->products[best[which]]);
        if (id == NULL || (outcome = ask(ranking, source, id, &factor, &links)) == FAILED)
            return FAILED;
        if (outcome != DONE)
            return outcome;
        if (links == NULL)
            continue;
        froms[expanded] = (From){ranking->products[best[which]].linked * SECOND_HOP * factor, list++, -1, best[which]};
        all_links[expanded++] = links;
    }
    for (int32_t which = 0; which < expanded; which++)
        if ((outcome = add_links(ranking, froms[which], all_links[which])) != DONE)
            return outcome;
    return DONE;
}

/* Scores ------------------------------------------------------------------------------------------------------------------------- */

/* Note what each product of the dict has for a reason of its own to be in the list. */
static int
add_part(Ranking *ranking, PyObject *part, uint32_t flag, size_t offset)
{
    PyObject *id, *chance;
    Py_ssize_t position = 0;
    int32_t place;
    while (PyDict_Next(part, &position, &id, &chance)) {
        int outcome = PyFloat_CheckExact(chance) ? place_of_id(ranking, id, &place) : UNUSUAL;
        if (outcome != DONE)
            return outcome;
        *(double *)((char *)&ranking->products[place] + offset) = PyFloat_AS_DOUBLE(chance);
        ranking->products[place].flags |= flag;
        if (!is_usual(PyFloat_AS_DOUBLE(chance)))
            return UNUSUAL;
    }
    return DONE;
}

/* Lower each linked product by its popularity, and leave those of the session out; `total` is the sum of the others. */
static int
damp(Ranking *ranking, PyObject *damping, double *total)
{
    *total = 0.0;
    for (int32_t place = ranking->first_linked; place >= 0; place = ranking->products[place].next) {
        if (ranking->products[place].flags & SEEN_NOW)
            continue;
        if (damping != Py_None) {
            PyObject *id = id_of(&ranking->products[place]);
            if (id == NULL)
                return FAILED;
            PyObject *damped = PyDict_Check(damping) ? PyDict_GetItemWithError(damping, id) : NULL;
            if (damped == NULL && PyErr_Occurred())
                return FAILED;
            damped = damped != NULL ? Py_NewRef(damped) : PyObject_GetItem(damping, id); /* which asks __missing__ */
            if (damped == NULL)
                return FAILED;
            double factor = PyFloat_CheckExact(damped) ? PyFloat_AS_DOUBLE(damped) : -1.0;
            Py_DECREF(damped);
            if (!is_usual(factor))
                return UNUSUAL;
            ranking->products[place].linked *= factor;
        }
        *total += ranking->products[place].linked;
    }
    return DONE;
}

/* The final scores of all that have one. */
static int
score_all(Ranking *ranking, double linked_part, PyObject *damping)
{
    double total;
    int outcome = damp(ranking, damping, &total);
    if (outcome != DONE)
        return outcome;
    double scale = linked_part / (total != 0.0 ? total : 1.0);
    for (int32_t place = 0; place < ranking->count; place++) {
        Product *product = &ranking->products[place];
        uint32_t flags = product->flags;
        if (flags & SEEN_NOW)
            product->score = product->now;
        else if (flags & LINKED)
            product->score = product->linked = product->linked * scale;
        if (flags & SEEN_BEFORE)
            product->score += product->before;
        if (flags & TRENDS)
            product->score += product->trend;
        if (!is_usual(product->score))
            return UNUSUAL;
    }
    return DONE;
}

/* Reasons ------------------------------------------------------------------------------------------------------------------------ */

/* The place in the context of what links to a product, if that weighs most; -1: it is here for another reason. */
static int32_t
cause_of(const Ranking *ranking, const Product *product)
{
    if (!(product->flags & LINKED) || product->flags & SEEN_NOW || product->linked <= 0.0)
        return -1;
    if (product->before > product->linked || product->trend > product->linked)
        return -1;
    if (product->cause >= 0 || product->middle < 0)
        return product->cause;
    return ranking->products[product->middle].cause;
}

/* Count how often each product stands in the list. */
static int
count_times(Ranking *ranking, PyObject *products)
{
    size_t size;
    for (Py_ssize_t index = 0; index < PyList_GET_SIZE(products); index++) {
        const char *text = text_of(PyList_GET_ITEM(products, index), &size);
        if (text == NULL)
            return UNUSUAL;
        int32_t place = ranking->table[slot_of(ranking, hash_of(text, size), text, size)];
        if (place >= 0)
            ranking->products[place].times++;
    }
    return DONE;
}

/* A tuple of the template's type and length, with one item in place of the template's, which is taken over. */
static PyObject *
with_item(PyObject *template, Py_ssize_t replaced, PyObject *item)
{
    PyTypeObject *type = Py_TYPE(template);
    Py_ssize_t length = PyTuple_GET_SIZE(template);
    PyObject *made = item != NULL ? type->tp_alloc(type, length) : NULL;
    if (made == NULL) {
        Py_XDECREF(item);
        return NULL;
    }
    for (Py_ssize_t place = 0; place < length; place++)
        PyTuple_SET_ITEM(made, place, place == replaced ? item : Py_NewRef(PyTuple_GET_ITEM(template, place)));
    return made;
}

/* Templates: a Recommendation, and the Reasons of what others viewed, was seen now, was seen before, and trends. */
enum { RECOMMENDATION, ALSO_VIEWED, IS_SEEN_NOW, WAS_SEEN_BEFORE, IS_TRENDING, TEMPLATES };
/* Places in them. */
enum { BECAUSE_OF = 1, TIMES_SEEN = 2, REASON_FIELDS = 9, RECOMMENDATION_FIELDS = 3 };

static PyObject *
reason_of(const Ranking *ranking, const Product *product, PyObject *context, PyObject **causes, PyObject *templates)
{
    int32_t cause = cause_of(ranking, product);
    if (cause >= 0) {
        if (causes[cause] == NULL) {
            PyObject *because_of = Py_NewRef(PyTuple_GET_ITEM(context, cause));
            causes[cause] = with_item(PyTuple_GET_ITEM(templates, ALSO_VIEWED), BECAUSE_OF, because_of);
        }
        return Py_XNewRef(causes[cause]);
    }
    if (!(product->flags & SEEN_NOW) && product->trend > product->before)
        return Py_NewRef(PyTuple_GET_ITEM(templates, IS_TRENDING));
    PyObject *template = PyTuple_GET_ITEM(templates, product->flags & SEEN_NOW ? IS_SEEN_NOW : WAS_SEEN_BEFORE);
    return with_item(template, TIMES_SEEN, PyLong_FromUnsignedLong(product->times));
}

static PyObject *
recommendations(Ranking *ranking, const int32_t *best, int32_t count, PyObject *context, PyObject *templates)
{
    PyObject *causes[MAX_CONTEXT] = {NULL};
    PyTypeObject *type = Py_TYPE(PyTuple_GET_ITEM(templates, RECOMMENDATION));
    PyObject *list = PyList_New(count);
    for (int32_t place = 0; list != NULL && place < count; place++) {
        Product *product = &ranking->products[best[place]];
        PyObject *id = id_of(product), *score = NULL, *reason = NULL, *made = NULL;
        if (id != NULL && (score = PyFloat_FromDouble(product->score)) != NULL
            && (reason = reason_of(ranking, product, context, causes, templates)) != NULL)
            made = type->tp_alloc(type, RECOMMENDATION_FIELDS);
        if (made == NULL) {
            Py_XDECREF(score);
            Py_XDECREF(reason);
            Py_CLEAR(list);
            break;
        }
        PyTuple_SET_ITEM(made, 0, Py_NewRef(id));
        PyTuple_SET_ITEM(made, 1, score);
        PyTuple_SET_ITEM(made, 2, reason);
        PyList_SET_ITEM(list, place, made);
    }
    for (int place = 0; place < MAX_CONTEXT; place++)
        Py_XDECREF(causes[place]);
    return list;
}

/* The ranking -------------------------------------------------------------------------------------------------------------------- */

enum { SESSION, EARLIER, CONTEXT, WORTH, LINKS, DAMPING, NOW, BEFORE, TREND, LINKED_PART, LENGTH, LIKE, ARGUMENTS };

static int
make(Ranking *ranking, PyObject *const *args, Py_ssize_t length, PyObject **list)
{
    int outcome;
    PyObject *context = args[CONTEXT];
    if ((outcome = grow(ranking)) != DONE || (outcome = follow_links(ranking, context, args[WORTH], args[LINKS])) != DONE)
        return outcome;
    if ((outcome = add_part(ranking, args[NOW], SEEN_NOW, offsetof(Product, now))) != DONE
        || (outcome = add_part(ranking, args[BEFORE], SEEN_BEFORE, offsetof(Product, before))) != DONE
        || (outcome = add_part(ranking, args[TREND], TRENDS, offsetof(Product, trend))) != DONE)
        return outcome;
    if ((outcome = score_all(ranking, PyFloat_AS_DOUBLE(args[LINKED_PART]), args[DAMPING])) != DONE)
        return outcome;
    int32_t limit = length < ranking->count ? (int32_t)length : ranking->count, count = 0, is_seen = 0;
    int32_t *best = PyMem_Malloc((limit + 1) * sizeof(int32_t));
    if (best == NULL) {
        PyErr_NoMemory();
        return FAILED;
    }
    for (int32_t place = 0; limit && place < ranking->count; place++)
        if (ranking->products[place].flags & ~IN_CONTEXT)
            insert(ranking, offsetof(Product, score), place, best, &count, limit);
    for (int32_t place = 0; place < count && !is_seen; place++)
        is_seen = cause_of(ranking, &ranking->products[best[place]]) < 0;
    if (is_seen && (outcome = count_times(ranking, args[SESSION])) == DONE)
        outcome = count_times(ranking, args[EARLIER]);
    if (outcome == DONE && (*list = recommendations(ranking, best, count, context, args[LIKE])) == NULL)
        outcome = FAILED;
    PyMem_Free(best);
    return outcome;
}

static int
are_usual(PyObject *const *args, Py_ssize_t count)
{
    if (count != ARGUMENTS || !PyList_CheckExact(args[SESSION]) || !PyList_CheckExact(args[EARLIER]) || !PyTuple_CheckExact(args[CONTEXT])
        || !PyTuple_CheckExact(args[WORTH]) || !PyDict_CheckExact(args[NOW]) || !PyDict_CheckExact(args[BEFORE])
        || !PyDict_CheckExact(args[TREND]) || !PyFloat_CheckExact(args[LINKED_PART]) || !PyLong_CheckExact(args[LENGTH])
        || !PyTuple_CheckExact(args[LIKE]) || PyTuple_GET_SIZE(args[LIKE]) != TEMPLATES)
        return 0;
    for (Py_ssize_t place = 0; place < TEMPLATES; place++) {
        PyObject *template = PyTuple_GET_ITEM(args[LIKE], place);
        if (!PyTuple_Check(template) || PyTuple_GET_SIZE(template) != (place == RECOMMENDATION ? RECOMMENDATION_FIELDS : REASON_FIELDS))
            return 0;
    }
    for (Py_ssize_t place = 0; place < PyTuple_GET_SIZE(args[WORTH]); place++)
        if (!PyFloat_CheckExact(PyTuple_GET_ITEM(args[WORTH], place)))
            return 0;
    Py_ssize_t length = PyTuple_GET_SIZE(args[CONTEXT]);
    return length <= MAX_CONTEXT && length <= PyTuple_GET_SIZE(args[WORTH]);
}

PyDoc_STRVAR(rank_doc,
"rank(session, earlier, context, worth, links, damping, seen_now, seen_before, trends, linked_part, length, templates, /)\n--\n\n"
"The best products, best first, as app/domain/ranking.py would rank them; None: something is unusual, let it.");

static PyObject *
kernel_rank(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    if (!are_usual(args, nargs))
        Py_RETURN_NONE;
    Py_ssize_t length = PyLong_AsSsize_t(args[LENGTH]);
    if (length < 0) {
        PyErr_Clear();
        Py_RETURN_NONE;
    }
    Ranking ranking = {.first_linked = -1, .last_linked = -1};
    PyObject *list = NULL;
    int outcome = make(&ranking, args, length, &list);
    for (int32_t place = 0; place < ranking.count; place++)
        Py_XDECREF(ranking.products[place].id);
    while (ranking.held_count)
        Py_DECREF(ranking.held[--ranking.held_count]);
    PyMem_Free(ranking.products);
    PyMem_Free(ranking.table);
    if (outcome == FAILED && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
        PyErr_Clear(); /* bytes that are no text: the Python says so in its own way */
        outcome = UNUSUAL;
    }
    if (outcome == UNUSUAL)
        Py_RETURN_NONE;
    return list;
}

static PyMethodDef methods[] = {
    {"rank", (PyCFunction)(void (*)(void))kernel_rank, METH_FASTCALL, rank_doc},
    {NULL, NULL, 0, NULL},
};

static int
kernel_exec(PyObject *module)
{
    PyObject *text = PyUnicode_FromString("tidings");
    if (text == NULL)
        return -1;
    seed = (uint64_t)PyObject_Hash(text); /* differs from process to process */
    Py_DECREF(text);
    return PyModule_AddIntConstant(module, "INTERFACE", INTERFACE);
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, kernel_exec}, {0, NULL}};

static struct PyModuleDef kernel = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_kernel",
    .m_doc = "The ranking's inner loops, compiled.",
    .m_size = 0,
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__kernel(void)
{
    return PyModuleDef_Init(&kernel);
}
