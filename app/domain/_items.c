/* The items at work, compiled: what app/domain/items.py says in Python, to the last bit, several times as fast; and the visits that are
 * added to them, read in place (app/domain/visit_records.py).
 *
 * It is optional, and keeps to what is usual. Where bytes are not as our own writers would write them, it answers None, and Protobuf reads
 * them. An item takes less than a third of the memory that it takes as a Python object.
 */

#include "_wire.h"

#include <math.h>
#include <stddef.h>

/* What app/domain/item_work.py expects; another number is that of an extension built from other sources. */
#define INTERFACE 1

/* As in app/domain/items.py: neighbours are cut to so many when they pass twice as many; the same of what was bought. */
#define KEPT_NEIGHBOURS 50
#define KEPT_BOUGHT 15
#define REPLY_BOUGHT 10
#define FREQUENCY_POWER 0.7
/* As in app/domain/decay.py. */
#define HALF_LIFE_MS INT64_C(7776000000)
#define WINDOW_HALF_LIVES 16
#define WINDOW_MS (WINDOW_HALF_LIVES * HALF_LIFE_MS)
#define UNIT 1048576.0
/* Up to here whole numbers, and sums of two of them, are floats without rounding. */
#define EXACT (INT64_C(1) << 52)

static uint64_t seed; /* of this process, so that nobody outside can tell which ids collide */

/* Numbers by product -------------------------------------------------------------------------------------------------------------- */

typedef struct {
    uint64_t weight;
    uint32_t count;
    uint32_t at;   /* of the wire id, in `ids` */
    uint32_t size; /* of the text */
    uint32_t head; /* of the length before it */
} Row;

/* In the order in which they came. A hundred hashes are looked through as fast as a hash table is found in, and grow in place. */
typedef struct {
    Row *rows;
    uint32_t *hashes;
    uint8_t *ids;
    uint32_t count, room, ids_size, ids_room;
} Rows;

typedef struct {
    const uint8_t *wire; /* the length of the text, then the text */
    uint32_t size, head, hash;
} Id;

static void
free_rows(Rows *rows)
{
    PyMem_Free(rows->rows);
    PyMem_Free(rows->hashes);
    PyMem_Free(rows->ids);
    *rows = (Rows){0};
}

static int
reserve(Rows *rows, uint64_t count, uint64_t ids_size)
{
    if (count > INT32_MAX / sizeof(Row) || ids_size > INT32_MAX)
        goto fail;
    if (count > rows->room) {
        Row *made = PyMem_Realloc(rows->rows, count * sizeof(Row));
        if (made == NULL)
            goto fail;
        rows->rows = made;
        uint32_t *hashes = PyMem_Realloc(rows->hashes, count * sizeof(uint32_t));
        if (hashes == NULL)
            goto fail;
        rows->hashes = hashes;
        rows->room = (uint32_t)count;
    }
    if (ids_size > rows->ids_room) {
        uint8_t *ids = PyMem_Realloc(rows->ids, ids_size);
        if (ids == NULL)
            goto fail;
        rows->ids = ids;
        rows->ids_room = (uint32_t)ids_size;
    }
    return DONE;
fail:
    PyErr_NoMemory();
    return FAILED;
}

/* The row of a product, a new one if there is none; NULL: there is no memory for it. */
static Row *
row_of(Rows *rows, Id id)
{
    for (uint32_t place = 0; place < rows->count; place++)
        if (rows->hashes[place] == id.hash) {
            Row *row = &rows->rows[place];
            if (row->size == id.size && memcmp(rows->ids + row->at, id.wire, id.head + id.size) == 0)
                return row;
        }
    uint64_t size = (uint64_t)rows->ids_size + id.head + id.size;
    uint64_t room = rows->count < rows->room ? rows->room : rows->room + rows->room / 4 + 4;
    if (reserve(rows, room, size <= rows->ids_room ? rows->ids_room : size + size / 4) != DONE)
        return NULL;
    Row *row = &rows->rows[rows->count];
    *row = (Row){.at = rows->ids_size, .size = id.size, .head = id.head};
    rows->hashes[rows->count++] = id.hash;
    rows->ids_size = (uint32_t)(write_bytes(rows->ids + rows->ids_size, id.wire, id.head + id.size) - rows->ids);
    return row;
}

/* Greater numbers first, ties by product id. */
static int
is_better(const Rows *rows, const Row *one, const Row *than)
{
    if (one->weight != than->weight)
        return one->weight > than->weight;
    if (one->count != than->count)
        return one->count > than->count;
    uint32_t shorter = one->size < than->size ? one->size : than->size;
    int order = memcmp(rows->ids + one->at + one->head, rows->ids + than->at + than->head, shorter);
    return order ? order < 0 : one->size < than->size;
}

/* The places of the best rows, best first; returns how many. */
static uint32_t
best_of(const Rows *rows, uint32_t limit, uint32_t *best)
{
    uint32_t count = 0;
    for (uint32_t place = 0; limit && place < rows->count; place++) {
        const Row *row = &rows->rows[place];
        if (count == limit && !is_better(rows, row, &rows->rows[best[count - 1]]))
            continue;
        uint32_t low = 0, high = count;
        while (low < high) {
            uint32_t middle = (low + high) / 2;
            if (is_better(rows, row, &rows->rows[best[middle]]))
                high = middle;
            else
                low = middle + 1;
        }
        if (count < limit)
            count++;
        memmove(best + low + 1, best + low, (count - 1 - low) * sizeof(uint32_t));
        best[low] = place;
    }
    return count;
}

/* Keep the best, in their order, once there are more than twice as many. Returns how many were cut, or FAILED. */
static int64_t
cut(Rows *rows, uint32_t kept)
{
    if (rows->count <= 2 * kept)
        return 0;
    uint32_t best[KEPT_NEIGHBOURS], count = best_of(rows, kept, best);
    int64_t before = rows->count;
    Rows made = {0};
    uint64_t ids_size = 0;
    for (uint32_t place = 0; place < count; place++)
        ids_size += rows->rows[best[place]].head + rows->rows[best[place]].size;
    if (reserve(&made, 2 * kept + 1, 2 * ids_size) != DONE) {
        free_rows(&made);
        return FAILED;
    }
    for (uint32_t place = 0; place < count; place++) {
        Row *row = &made.rows[made.count];
        *row = rows->rows[best[place]];
        row->at = made.ids_size;
        made.hashes[made.count++] = rows->hashes[best[place]];
        const uint8_t *wire = rows->ids + rows->rows[best[place]].at;
        made.ids_size = (uint32_t)(write_bytes(made.ids + made.ids_size, wire, row->head + row->size) - made.ids);
    }
    free_rows(rows);
    *rows = made;
    return before - count;
}

static size_t
memory_of(const Rows *rows)
{
    return rows->room * (sizeof(Row) + sizeof(uint32_t)) + rows->ids_room;
}

static int
id_of(Bytes text, Id *id)
{
    size_t size = length_of(text);
    if (size > INT32_MAX || !is_text(text))
        return UNUSUAL;
    id->size = (uint32_t)size;
    id->head = (uint32_t)varint_size(size);
    id->wire = text.at - id->head; /* text that was read has its length before it, as short as can be */
    id->hash = hash_of(text.at, size, seed);
    return DONE;
}

/* Items --------------------------------------------------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    uint8_t *product_id;
    uint32_t product_id_size;
    int32_t window;
    uint64_t visit_count, weight, evicted_count, purchase_count, bought_evicted_count;
    int64_t last_visit_at_ms;
    Rows neighbours, bought;
    int overflowed; /* a sum has outgrown 64 bits, so it cannot be written */
} Item;

static PyTypeObject item_type;

static void
item_dealloc(PyObject *self)
{
    Item *item = (Item *)self;
    PyMem_Free(item->product_id);
    free_rows(&item->neighbours);
    free_rows(&item->bought);
    Py_TYPE(self)->tp_free(self);
}

static int
set_product_id(Item *item, Bytes text)
{
    size_t size = length_of(text);
    if (size > INT32_MAX || !is_text(text))
        return UNUSUAL;
    uint8_t *made = PyMem_Realloc(item->product_id, size ? size : 1);
    if (made == NULL) {
        PyErr_NoMemory();
        return FAILED;
    }
    item->product_id = made;
    item->product_id_size = (uint32_t)size;
    write_bytes(made, text.at, size);
    return DONE;
}

static int64_t
window_of(int64_t at_ms)
{
    return at_ms / WINDOW_MS - (at_ms % WINDOW_MS < 0);
}

static uint64_t
shifted(uint64_t weight, int64_t windows)
{
    return windows * WINDOW_HALF_LIVES < 64 ? weight >> (windows * WINDOW_HALF_LIVES) : 0;
}

/* Bring the item to a later window; returns by how many windows a visit of an older one is to be shifted down. */
static int64_t
align(Item *item, int64_t window)
{
    if (window < item->window)
        return item->window - window;
    int64_t windows = window - item->window;
    if (item->visit_count || item->neighbours.count)
        item->weight = shifted(item->weight, windows);
    for (uint32_t place = 0; place < item->neighbours.count; place++)
        item->neighbours.rows[place].weight = shifted(item->neighbours.rows[place].weight, windows);
    item->window = (int32_t)window;
    return 0;
}

static void
add(Item *item, uint64_t *to, uint64_t number)
{
    *to += number;
    if (*to < number)
        item->overflowed = 1;
}

static int
add_link(Item *item, Id neighbour, uint64_t weight)
{
    Row *row = row_of(&item->neighbours, neighbour);
    if (row == NULL)
        return FAILED;
    add(item, &row->weight, weight);
    if (++row->count == 0) /* as where both stand in one number */
        add(item, &row->weight, 1);
    return DONE;
}

static int
cut_neighbours(Item *item)
{
    int64_t evicted = cut(&item->neighbours, KEPT_NEIGHBOURS);
    item->evicted_count += evicted > 0 ? (uint64_t)evicted : 0;
    return evicted < 0 ? FAILED : DONE;
}

static int
add_bought(Item *item, Id other)
{
    Row *row = row_of(&item->bought, other);
    if (row == NULL)
        return FAILED;
    row->weight++;
    int64_t evicted = cut(&item->bought, KEPT_BOUGHT);
    item->bought_evicted_count += evicted > 0 ? (uint64_t)evicted : 0;
    return evicted < 0 ? FAILED : DONE;
}

/* Fields of tidings.state.v1.Item. */
enum {
    PRODUCT_ID = 1, VISIT_COUNT, WEIGHT, WINDOW, LAST_VISIT_AT_MS, NEIGHBOUR_IDS, NEIGHBOUR_WEIGHTS, EVICTED_COUNT, NEIGHBOUR_COUNTS,
    PURCHASE_COUNT, BOUGHT_IDS, BOUGHT_COUNTS, BOUGHT_EVICTED_COUNT,
};

static int
read_id(Bytes *from, Rows *rows)
{
    Bytes text;
    Id id;
    if (!read_delimited(from, &text) || id_of(text, &id) != DONE)
        return UNUSUAL;
    uint32_t count = rows->count;
    if (row_of(rows, id) == NULL)
        return FAILED;
    return rows->count == count ? UNUSUAL : DONE; /* it stands there twice */
}

/* Reads packed numbers into the rows, one for each. */
static int
read_numbers(Bytes packed, Rows *rows, size_t offset, int is_64_bits)
{
    uint64_t number;
    for (uint32_t place = 0; place < rows->count; place++) {
        if (!read_varint(&packed, &number) || (!is_64_bits && number > UINT32_MAX))
            return UNUSUAL;
        char *field = (char *)&rows->rows[place] + offset;
        if (offset == offsetof(Row, weight))
            *(uint64_t *)field = number;
        else
            *(uint32_t *)field = (uint32_t)number;
    }
    return packed.at == packed.end ? DONE : UNUSUAL;
}

static int
decode(Item *item, Bytes from)
{
    Bytes weights = {0}, counts = {0}, together = {0}, text;
    uint64_t tag, number;
    int outcome = DONE;
    while (from.at < from.end && outcome == DONE) {
        if (!read_varint(&from, &tag))
            return UNUSUAL;
        switch (tag) {
        case DELIMITED(PRODUCT_ID):
            outcome = read_delimited(&from, &text) ? set_product_id(item, text) : UNUSUAL;
            continue;
        case DELIMITED(NEIGHBOUR_IDS):
            outcome = read_id(&from, &item->neighbours);
            continue;
        case DELIMITED(BOUGHT_IDS):
            outcome = read_id(&from, &item->bought);
            continue;
        case DELIMITED(NEIGHBOUR_WEIGHTS):
            outcome = weights.at == NULL && read_delimited(&from, &weights) ? DONE : UNUSUAL;
            continue;
        case DELIMITED(NEIGHBOUR_COUNTS):
            outcome = counts.at == NULL && read_delimited(&from, &counts) ? DONE : UNUSUAL;
            continue;
        case DELIMITED(BOUGHT_COUNTS):
            outcome = together.at == NULL && read_delimited(&from, &together) ? DONE : UNUSUAL;
            continue;
        }
        if (!read_varint(&from, &number))
            return UNUSUAL;
        switch (tag) {
        case VARINT(VISIT_COUNT):
            item->visit_count = number;
            break;
        case VARINT(WEIGHT):
            item->weight = number;
            break;
        case VARINT(WINDOW):
            if (number > UINT32_MAX)
                return UNUSUAL;
            item->window = (int32_t)((uint32_t)(number >> 1) ^ (uint32_t)-(int32_t)(number & 1));
            break;
        case VARINT(LAST_VISIT_AT_MS):
            item->last_visit_at_ms = (int64_t)number;
            break;
        case VARINT(EVICTED_COUNT):
            item->evicted_count = number;
            break;
        case VARINT(PURCHASE_COUNT):
            item->purchase_count = number;
            break;
        case VARINT(BOUGHT_EVICTED_COUNT):
            item->bought_evicted_count = number;
            break;
        default:
            return UNUSUAL;
        }
    }
    if (outcome != DONE)
        return outcome;
    if (item->purchase_count == 0 && item->bought.count == 0)
        item->bought_evicted_count = 0;
    if ((outcome = read_numbers(weights, &item->neighbours, offsetof(Row, weight), 1)) != DONE)
        return outcome;
    if (length_of(counts) && (outcome = read_numbers(counts, &item->neighbours, offsetof(Row, count), 0)) != DONE)
        return outcome; /* none: an item from before links were counted */
    return read_numbers(together, &item->bought, offsetof(Row, weight), 0);
}

PyDoc_STRVAR(item_decode_doc, "decode(value, /)\n--\n\nOf an Item message; None: something is unusual, or wrong.");

static PyObject *
item_decode(PyObject *module, PyObject *value)
{
    Bytes bytes;
    if (!bytes_of(value, &bytes))
        Py_RETURN_NONE;
    Item *item = PyObject_New(Item, &item_type);
    if (item == NULL)
        return NULL;
    memset((char *)item + sizeof(PyObject), 0, sizeof(Item) - sizeof(PyObject));
    int outcome = decode(item, bytes);
    if (outcome == DONE)
        return (PyObject *)item;
    Py_DECREF(item);
    if (outcome == FAILED)
        return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(item_new_doc, "new(product_id, /)\n--\n\nAn item that nobody has visited, by its id in UTF-8.");

static PyObject *
item_new(PyObject *module, PyObject *key)
{
    Bytes text;
    if (!bytes_of(key, &text)) {
        PyErr_SetString(PyExc_TypeError, "a product id in UTF-8 is wanted");
        return NULL;
    }
    Item *item = PyObject_New(Item, &item_type);
    if (item == NULL)
        return NULL;
    memset((char *)item + sizeof(PyObject), 0, sizeof(Item) - sizeof(PyObject));
    int outcome = set_product_id(item, text);
    if (outcome == DONE)
        return (PyObject *)item;
    Py_DECREF(item);
    if (outcome == UNUSUAL)
        PyErr_SetString(PyExc_ValueError, "a product id must be UTF-8");
    return NULL;
}

static size_t
field_size(uint64_t number)
{
    return number ? 1 + varint_size(number) : 0;
}

static uint8_t *
write_field(uint8_t *at, uint64_t tag, uint64_t number)
{
    if (number == 0)
        return at;
    *at++ = (uint8_t)tag;
    return write_varint(at, number);
}

/* All wire ids, each with a tag before it. */
static uint8_t *
write_ids(uint8_t *at, uint64_t tag, const Rows *rows)
{
    for (uint32_t place = 0; place < rows->count; place++) {
        const Row *row = &rows->rows[place];
        *at++ = (uint8_t)tag;
        at = write_bytes(at, rows->ids + row->at, row->head + row->size);
    }
    return at;
}

static uint8_t *
write_size(uint8_t *at, uint64_t tag, uint64_t size)
{
    *at++ = (uint8_t)tag;
    return write_varint(at, size);
}

PyDoc_STRVAR(item_encode_doc, "encode(item, /)\n--\n\nAn Item message. Raises ValueError when a sum has outgrown 64 bits.");

static PyObject *
item_encode(PyObject *module, PyObject *self)
{
    if (!Py_IS_TYPE(self, &item_type)) {
        PyErr_SetString(PyExc_TypeError, "an item is wanted");
        return NULL;
    }
    Item *item = (Item *)self;
    if (item->overflowed) {
        PyErr_SetString(PyExc_ValueError, "a sum of an item has outgrown 64 bits");
        return NULL;
    }
    const Rows *neighbours = &item->neighbours, *bought = &item->bought;
    size_t weights = 0, counts = 0, together = 0, size = 0;
    for (uint32_t place = 0; place < neighbours->count; place++) {
        weights += varint_size(neighbours->rows[place].weight);
        counts += varint_size(neighbours->rows[place].count);
    }
    for (uint32_t place = 0; place < bought->count; place++)
        together += varint_size(bought->rows[place].weight);
    uint64_t window = (uint64_t)((uint32_t)item->window << 1 ^ (uint32_t)(item->window >> 31));
    int was_bought = item->purchase_count || bought->count;
    if (item->product_id_size)
        size += 1 + varint_size(item->product_id_size) + item->product_id_size;
    size += field_size(item->visit_count) + field_size(item->weight) + field_size(window) + field_size((uint64_t)item->last_visit_at_ms);
    size += field_size(item->evicted_count);
    if (neighbours->count)
        size += 2 + varint_size(weights) + weights + neighbours->count + neighbours->ids_size + varint_size(counts) + counts;
    if (was_bought)
        size += field_size(item->purchase_count) + field_size(item->bought_evicted_count);
    if (bought->count)
        size += bought->count + bought->ids_size + 1 + varint_size(together) + together;
    PyObject *value = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (value == NULL)
        return NULL;
    uint8_t *at = (uint8_t *)PyBytes_AS_STRING(value);
    if (item->product_id_size)
        at = write_bytes(write_size(at, DELIMITED(PRODUCT_ID), item->product_id_size), item->product_id, item->product_id_size);
    at = write_field(at, VARINT(VISIT_COUNT), item->visit_count);
    at = write_field(at, VARINT(WEIGHT), item->weight);
    at = write_field(at, VARINT(WINDOW), window);
    at = write_field(at, VARINT(LAST_VISIT_AT_MS), (uint64_t)item->last_visit_at_ms);
    if (neighbours->count) {
        at = write_size(at, DELIMITED(NEIGHBOUR_WEIGHTS), weights);
        for (uint32_t place = 0; place < neighbours->count; place++)
            at = write_varint(at, neighbours->rows[place].weight);
    }
    at = write_field(at, VARINT(EVICTED_COUNT), item->evicted_count);
    if (was_bought) {
        at = write_field(at, VARINT(PURCHASE_COUNT), item->purchase_count);
        at = write_field(at, VARINT(BOUGHT_EVICTED_COUNT), item->bought_evicted_count);
    }
    if (neighbours->count) {
        at = write_size(write_ids(at, DELIMITED(NEIGHBOUR_IDS), neighbours), DELIMITED(NEIGHBOUR_COUNTS), counts);
        for (uint32_t place = 0; place < neighbours->count; place++)
            at = write_varint(at, neighbours->rows[place].count);
    }
    if (bought->count) {
        at = write_size(write_ids(at, DELIMITED(BOUGHT_IDS), bought), DELIMITED(BOUGHT_COUNTS), together);
        for (uint32_t place = 0; place < bought->count; place++)
            at = write_varint(at, bought->rows[place].weight);
    }
    return value;
}

/* Fields of tidings.state.v1.NeighbourList. */
enum { LIST_PRODUCT = 1, LIST_VISITS, LIST_IDS, LIST_SCORES, LIST_COUNTS, LIST_PURCHASES, LIST_BOUGHT, LIST_BOUGHT_COUNTS };
#define MAX_LIMIT 256

/* What a neighbour's weight is multiplied with; below 0: Python's own arithmetic is wanted. */
static double
factor_of(const Item *item)
{
    int64_t last = item->last_visit_at_ms;
    if (last < -EXACT || last > EXACT || item->window < -EXACT / WINDOW_MS || item->window > EXACT / WINDOW_MS)
        return -1.0;
    int64_t age = last - item->window * WINDOW_MS;
    double growth = UNIT * pow(2.0, (double)age / (double)HALF_LIFE_MS);
    if (!(growth > 0.0) || isinf(growth))
        return -1.0;
    double scale = 1.0 / growth;
    double factor = scale / pow((double)item->weight * scale + 1.0, FREQUENCY_POWER);
    return isfinite(factor) ? factor : -1.0;
}

static size_t
best_ids_size(const Rows *rows, const uint32_t *best, uint32_t count)
{
    size_t size = count;
    for (uint32_t place = 0; place < count; place++)
        size += rows->rows[best[place]].head + rows->rows[best[place]].size;
    return size;
}

static uint8_t *
write_best_ids(uint8_t *at, uint64_t tag, const Rows *rows, const uint32_t *best, uint32_t count)
{
    for (uint32_t place = 0; place < count; place++) {
        const Row *row = &rows->rows[best[place]];
        *at++ = (uint8_t)tag;
        at = write_bytes(at, rows->ids + row->at, row->head + row->size);
    }
    return at;
}

static uint8_t *
write_float(uint8_t *at, float number)
{
    uint32_t bits;
    memcpy(&bits, &number, 4);
    for (int shift = 0; shift < 32; shift += 8)
        *at++ = (uint8_t)(bits >> shift);
    return at;
}

PyDoc_STRVAR(item_list_doc,
"neighbour_list(item, limit, /)\n--\n\nThe best neighbours, a serialised NeighbourList; None: something is unusual.");

static PyObject *
item_list(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 2 || !Py_IS_TYPE(args[0], &item_type) || !PyLong_CheckExact(args[1])) {
        PyErr_SetString(PyExc_TypeError, "an item and a limit are wanted");
        return NULL;
    }
    const Item *item = (Item *)args[0];
    long limit = PyLong_AsLong(args[1]);
    if (limit == -1 && PyErr_Occurred())
        return NULL;
    double factor = factor_of(item);
    if (limit < 0 || limit > MAX_LIMIT || item->overflowed || factor < 0.0)
        Py_RETURN_NONE;
    const Rows *neighbours = &item->neighbours, *bought = &item->bought;
    uint32_t best[MAX_LIMIT], most[REPLY_BOUGHT];
    uint32_t count = best_of(neighbours, (uint32_t)limit, best), bought_count = 0;
    size_t counts = 0, together = 0, size = 2 + varint_size(item->product_id_size) + item->product_id_size + varint_size(item->visit_count);
    if (count) {
        if (isinf((float)((double)neighbours->rows[best[0]].weight * factor)))
            Py_RETURN_NONE;
        for (uint32_t place = 0; place < count; place++)
            counts += varint_size(neighbours->rows[best[place]].count);
        size += best_ids_size(neighbours, best, count) + 2 + varint_size(4 * count) + 4 * count + varint_size(counts) + counts;
    }
    if (item->purchase_count) {
        size += 1 + varint_size(item->purchase_count);
        if ((bought_count = best_of(bought, REPLY_BOUGHT, most))) {
            for (uint32_t place = 0; place < bought_count; place++)
                together += varint_size(bought->rows[most[place]].weight);
            size += best_ids_size(bought, most, bought_count) + 1 + varint_size(together) + together;
        }
    }
    PyObject *value = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (value == NULL)
        return NULL;
    uint8_t *at = (uint8_t *)PyBytes_AS_STRING(value);
    at = write_bytes(write_size(at, DELIMITED(LIST_PRODUCT), item->product_id_size), item->product_id, item->product_id_size);
    at = write_size(at, VARINT(LIST_VISITS), item->visit_count);
    if (count) {
        at = write_size(write_best_ids(at, DELIMITED(LIST_IDS), neighbours, best, count), DELIMITED(LIST_SCORES), 4 * count);
        for (uint32_t place = 0; place < count; place++)
            at = write_float(at, (float)((double)neighbours->rows[best[place]].weight * factor));
        at = write_size(at, DELIMITED(LIST_COUNTS), counts);
        for (uint32_t place = 0; place < count; place++)
            at = write_varint(at, neighbours->rows[best[place]].count);
    }
    if (item->purchase_count)
        at = write_size(at, VARINT(LIST_PURCHASES), item->purchase_count);
    if (bought_count) {
        at = write_size(write_best_ids(at, DELIMITED(LIST_BOUGHT), bought, most, bought_count), DELIMITED(LIST_BOUGHT_COUNTS), together);
        for (uint32_t place = 0; place < bought_count; place++)
            at = write_varint(at, bought->rows[most[place]].weight);
    }
    return value;
}

static PyObject *
item_sizeof(PyObject *self, PyObject *ignored)
{
    const Item *item = (Item *)self;
    return PyLong_FromSize_t(sizeof(Item) + item->product_id_size + memory_of(&item->neighbours) + memory_of(&item->bought));
}

static PyMethodDef item_methods[] = {
    {"__sizeof__", item_sizeof, METH_NOARGS, "Bytes of memory, all of them."},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject item_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "app.domain._items.Item",
    .tp_doc = "One product's visits and neighbours, at work. Changed in place.",
    .tp_basicsize = sizeof(Item),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = item_dealloc,
    .tp_methods = item_methods,
};

/* Visits -------------------------------------------------------------------------------------------------------------------------- */

/* Fields of tidings.internal.v1.Visits. */
enum {
    SOURCE_PARTITION = 1, SOURCE_OFFSETS = 2, OCCURRED_AT_MS = 4, WEIGHTS = 6, REPLY_TO_USER_IDS = 7, CAUSED_AT_MS = 8, LINK_COUNTS = 9,
    LINK_WEIGHTS = 11, PRODUCTS = 12, ITEM_PLACES = 13, LINK_PLACES = 14, ASKING_USER_IDS = 15, ASKED_PLACES = 16,
    ASKED_CAUSED_AT_MS = 17, PURCHASES = 18, BOUGHT_VISITS = 19, BOUGHT_PLACES = 20, FIELDS = 21,
};

typedef struct {
    uint64_t *numbers;
    size_t count;
} Column;

typedef struct {
    Bytes *texts;
    size_t count, room;
} Texts;

typedef struct {
    PyObject_HEAD
    PyObject *value; /* the message: texts lie in it */
    uint64_t *numbers; /* of all columns */
    Column columns[FIELDS];
    Texts users, askers;
    Id *products;
    PyObject **product_ids; /* as Python objects, those that were needed */
    int32_t *item_of; /* of each product, its place among `items()`; -1: it has none */
    size_t product_count, room;
    uint32_t source_partition;
    size_t first, first_link, first_arrival; /* what is not applied yet */
    size_t item_count;
} Visits;

static PyTypeObject visits_type;

static void
visits_dealloc(PyObject *self)
{
    Visits *visits = (Visits *)self;
    for (size_t place = 0; visits->product_ids != NULL && place < visits->product_count; place++)
        Py_XDECREF(visits->product_ids[place]);
    PyMem_Free(visits->product_ids);
    PyMem_Free(visits->item_of);
    PyMem_Free(visits->products);
    PyMem_Free(visits->users.texts);
    PyMem_Free(visits->askers.texts);
    PyMem_Free(visits->numbers);
    Py_XDECREF(visits->value);
    Py_TYPE(self)->tp_free(self);
}

/* Room for one more. */
static int
make_room(void **array, size_t count, size_t *room, size_t item_size)
{
    if (count < *room)
        return DONE;
    size_t wanted = *room ? 2 * *room : 32;
    void *made = PyMem_Realloc(*array, wanted * item_size);
    if (made == NULL) {
        PyErr_NoMemory();
        return FAILED;
    }
    *array = made;
    *room = wanted;
    return DONE;
}

static int
read_text(Bytes *from, Texts *texts)
{
    if (make_room((void **)&texts->texts, texts->count, &texts->room, sizeof(Bytes)) != DONE)
        return FAILED;
    Bytes *text = &texts->texts[texts->count];
    if (!read_delimited(from, text) || !is_text(*text))
        return UNUSUAL;
    texts->count++;
    return DONE;
}

static int
read_product(Bytes *from, Visits *visits)
{
    if (make_room((void **)&visits->products, visits->product_count, &visits->room, sizeof(Id)) != DONE)
        return FAILED;
    Bytes text;
    if (!read_delimited(from, &text) || !is_key(text) || id_of(text, &visits->products[visits->product_count]) != DONE)
        return UNUSUAL;
    visits->product_count++;
    return DONE;
}

static int
are_32_bits(uint64_t field)
{
    return field != SOURCE_OFFSETS && field != OCCURRED_AT_MS && field != WEIGHTS && field != CAUSED_AT_MS && field != LINK_WEIGHTS
           && field != ASKED_CAUSED_AT_MS;
}

static int
read_columns(Visits *visits, const Bytes *packed)
{
    size_t total = 0;
    for (int field = 0; field < FIELDS; field++)
        total += visits->columns[field].count = count_varints(packed[field]);
    uint64_t *at = visits->numbers = PyMem_Malloc((total ? total : 1) * sizeof(uint64_t));
    if (at == NULL) {
        PyErr_NoMemory();
        return FAILED;
    }
    for (int field = 0; field < FIELDS; field++) {
        Column *column = &visits->columns[field];
        Bytes from = packed[field];
        column->numbers = at;
        for (size_t place = 0; place < column->count; place++, at++)
            if (!read_varint(&from, at) || (are_32_bits((uint64_t)field) && *at > UINT32_MAX))
                return UNUSUAL;
        if (from.at != from.end)
            return UNUSUAL;
    }
    return DONE;
}

static int
are_below(Column column, size_t limit)
{
    for (size_t place = 0; place < column.count; place++)
        if (column.numbers[place] >= limit)
            return 0;
    return 1;
}

/* Whether the lists fit together: what decode_visits (app/domain/visit_records.py) asks of them. */
static int
fit_together(const Visits *visits)
{
    const Column *columns = visits->columns, offsets = columns[SOURCE_OFFSETS], weights = columns[WEIGHTS];
    size_t count = offsets.count, products = visits->product_count, arrivals = 0;
    if (columns[ITEM_PLACES].count != count || columns[OCCURRED_AT_MS].count != count || weights.count != count
        || columns[LINK_COUNTS].count != count || columns[LINK_PLACES].count != columns[LINK_WEIGHTS].count)
        return 0;
    uint64_t links = 0; /* of numbers below 2^32 */
    for (size_t place = 0; place < count; place++) {
        links += columns[LINK_COUNTS].numbers[place];
        arrivals += weights.numbers[place] != 0;
        if (place && (int64_t)offsets.numbers[place - 1] > (int64_t)offsets.numbers[place])
            return 0;
    }
    if (links != columns[LINK_PLACES].count || visits->users.count != arrivals || columns[CAUSED_AT_MS].count != arrivals
        || !are_below(columns[ITEM_PLACES], products) || !are_below(columns[LINK_PLACES], products)
        || !are_below(columns[PURCHASES], count) || !are_below(columns[BOUGHT_VISITS], count))
        return 0;
    if (columns[BOUGHT_VISITS].count
        && (columns[BOUGHT_PLACES].count != columns[BOUGHT_VISITS].count || !are_below(columns[BOUGHT_PLACES], products)))
        return 0;
    return columns[ASKED_PLACES].count == 0
           || (visits->askers.count == columns[ASKED_PLACES].count && columns[ASKED_CAUSED_AT_MS].count == columns[ASKED_PLACES].count
               && are_below(columns[ASKED_PLACES], products));
}

static int
read_all(Visits *visits, Bytes from)
{
    Bytes packed[FIELDS] = {{0}};
    uint64_t tag, number;
    int outcome = DONE;
    while (from.at < from.end && outcome == DONE) {
        if (!read_varint(&from, &tag))
            return UNUSUAL;
        switch (tag) {
        case VARINT(SOURCE_PARTITION):
            if (!read_varint(&from, &number) || number > UINT32_MAX)
                return UNUSUAL;
            visits->source_partition = (uint32_t)number;
            break;
        case DELIMITED(PRODUCTS):
            outcome = read_product(&from, visits);
            break;
        case DELIMITED(REPLY_TO_USER_IDS):
            outcome = read_text(&from, &visits->users);
            break;
        case DELIMITED(ASKING_USER_IDS):
            outcome = read_text(&from, &visits->askers);
            break;
        case DELIMITED(SOURCE_OFFSETS):
        case DELIMITED(OCCURRED_AT_MS):
        case DELIMITED(WEIGHTS):
        case DELIMITED(CAUSED_AT_MS):
        case DELIMITED(LINK_COUNTS):
        case DELIMITED(LINK_WEIGHTS):
        case DELIMITED(ITEM_PLACES):
        case DELIMITED(LINK_PLACES):
        case DELIMITED(ASKED_PLACES):
        case DELIMITED(ASKED_CAUSED_AT_MS):
        case DELIMITED(PURCHASES):
        case DELIMITED(BOUGHT_VISITS):
        case DELIMITED(BOUGHT_PLACES):
            if (packed[tag >> 3].at != NULL || !read_delimited(&from, &packed[tag >> 3]))
                return UNUSUAL;
            break;
        default:
            return UNUSUAL;
        }
    }
    if (outcome == DONE)
        outcome = read_columns(visits, packed);
    return outcome == DONE && !fit_together(visits) ? UNUSUAL : outcome;
}

PyDoc_STRVAR(visits_read_doc, "read_visits(value, /)\n--\n\nOf a Visits message; None: something is unusual, or wrong.");

static PyObject *
visits_read(PyObject *module, PyObject *value)
{
    Bytes bytes;
    if (!bytes_of(value, &bytes))
        Py_RETURN_NONE;
    Visits *visits = PyObject_New(Visits, &visits_type);
    if (visits == NULL)
        return NULL;
    memset((char *)visits + sizeof(PyObject), 0, sizeof(Visits) - sizeof(PyObject));
    visits->value = Py_NewRef(value);
    int outcome = read_all(visits, bytes);
    if (outcome == DONE) {
        visits->product_ids = PyMem_Calloc(visits->product_count + 1, sizeof(PyObject *));
        visits->item_of = PyMem_Malloc((visits->product_count + 1) * sizeof(int32_t));
        if (visits->product_ids != NULL && visits->item_of != NULL)
            return (PyObject *)visits;
        PyErr_NoMemory();
        outcome = FAILED;
    }
    Py_DECREF(visits);
    if (outcome == FAILED)
        return NULL;
    Py_RETURN_NONE;
}

/* A product's id as a Python object: borrowed. */
static PyObject *
product_id_of(Visits *visits, size_t place)
{
    if (visits->product_ids[place] == NULL) {
        Id id = visits->products[place];
        visits->product_ids[place] = PyUnicode_DecodeUTF8((const char *)id.wire + id.head, id.size, NULL);
    }
    return visits->product_ids[place];
}

PyDoc_STRVAR(visits_skip_doc, "skip(offset, /)\n--\n\nForget what events before this offset caused; returns how many visits that was.");

static PyObject *
visits_skip(PyObject *self, PyObject *offset)
{
    Visits *visits = (Visits *)self;
    const Column *columns = visits->columns;
    long long from = PyLong_AsLongLong(offset);
    if (from == -1 && PyErr_Occurred())
        return NULL;
    for (; visits->first < columns[SOURCE_OFFSETS].count && (int64_t)columns[SOURCE_OFFSETS].numbers[visits->first] < from; visits->first++) {
        visits->first_link += columns[LINK_COUNTS].numbers[visits->first];
        visits->first_arrival += columns[WEIGHTS].numbers[visits->first] != 0;
    }
    return PyLong_FromSize_t(visits->first);
}

PyDoc_STRVAR(visits_items_doc, "items()\n--\n\nThe ids of the products whose items the visits change, in UTF-8, each once.");

static PyObject *
visits_items(PyObject *self, PyObject *ignored)
{
    Visits *visits = (Visits *)self;
    Column places = visits->columns[ITEM_PLACES];
    PyObject *keys = PyList_New(0);
    visits->item_count = 0;
    for (size_t place = 0; place < visits->product_count; place++)
        visits->item_of[place] = -1;
    for (size_t visit = visits->first; keys != NULL && visit < places.count; visit++) {
        size_t place = places.numbers[visit];
        if (visits->item_of[place] >= 0)
            continue;
        Id id = visits->products[place];
        PyObject *key = PyBytes_FromStringAndSize((const char *)id.wire + id.head, id.size);
        if (key == NULL || PyList_Append(keys, key) < 0)
            Py_CLEAR(keys);
        Py_XDECREF(key);
        visits->item_of[place] = (int32_t)visits->item_count++;
    }
    return keys;
}

static int
add_visits(const Visits *visits, PyObject *items)
{
    const Column *columns = visits->columns;
    size_t link = visits->first_link;
#define ITEM_AT(visit) ((Item *)PyList_GET_ITEM(items, visits->item_of[columns[ITEM_PLACES].numbers[visit]]))
    for (size_t visit = visits->first; visit < columns[SOURCE_OFFSETS].count; visit++) {
        Item *item = ITEM_AT(visit);
        int64_t at_ms = (int64_t)columns[OCCURRED_AT_MS].numbers[visit], window = window_of(at_ms);
        uint64_t weight = columns[WEIGHTS].numbers[visit];
        int64_t down = window != item->window ? align(item, window) : 0;
        if (weight) {
            item->visit_count++;
            add(item, &item->weight, shifted(weight, down));
        }
        if (at_ms > item->last_visit_at_ms)
            item->last_visit_at_ms = at_ms;
        for (uint64_t count = columns[LINK_COUNTS].numbers[visit]; count; count--, link++) {
            Id neighbour = visits->products[columns[LINK_PLACES].numbers[link]];
            if (add_link(item, neighbour, shifted(columns[LINK_WEIGHTS].numbers[link], down)) != DONE)
                return FAILED;
        }
        if (cut_neighbours(item) != DONE)
            return FAILED;
    }
    for (size_t place = 0; place < columns[PURCHASES].count; place++)
        if (columns[PURCHASES].numbers[place] >= visits->first)
            ITEM_AT(columns[PURCHASES].numbers[place])->purchase_count++;
    for (size_t place = 0; place < columns[BOUGHT_VISITS].count; place++) {
        size_t visit = columns[BOUGHT_VISITS].numbers[place];
        if (visit >= visits->first
            && add_bought(ITEM_AT(visit), visits->products[columns[BOUGHT_PLACES].numbers[place]]) != DONE)
            return FAILED;
    }
#undef ITEM_AT
    return DONE;
}

/* askers.setdefault((user id, product id), when) */
static int
note_asker(PyObject *askers, Bytes user, PyObject *product_id, uint64_t caused_at_ms)
{
    PyObject *user_id = text_object(user), *asker = NULL, *when = NULL, *noted = NULL;
    if (user_id != NULL && product_id != NULL && (asker = PyTuple_Pack(2, user_id, product_id)) != NULL
        && (when = PyLong_FromLongLong((int64_t)caused_at_ms)) != NULL)
        noted = PyDict_SetDefault(askers, asker, when);
    Py_XDECREF(user_id);
    Py_XDECREF(asker);
    Py_XDECREF(when);
    return noted != NULL ? DONE : FAILED;
}

PyDoc_STRVAR(visits_apply_doc,
"apply(items, askers, /)\n--\n\nAdd the visits to their items, which stand in the order of items(), and to askers, user and product → when,\n"
"who wants an answer about what. Returns the last offset.");

static PyObject *
visits_apply(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    Visits *visits = (Visits *)self;
    const Column *columns = visits->columns;
    size_t count = columns[SOURCE_OFFSETS].count;
    if (nargs != 2 || !PyList_CheckExact(args[0]) || !PyDict_CheckExact(args[1])) {
        PyErr_SetString(PyExc_TypeError, "a list of items and a dict are wanted");
        return NULL;
    }
    if (visits->first == count || (size_t)PyList_GET_SIZE(args[0]) != visits->item_count || visits->item_count == 0) {
        PyErr_SetString(PyExc_ValueError, "each of items() has an item, and there is at least one visit");
        return NULL;
    }
    for (size_t place = 0; place < visits->item_count; place++)
        if (!Py_IS_TYPE(PyList_GET_ITEM(args[0], place), &item_type)) {
            PyErr_SetString(PyExc_TypeError, "an item is wanted");
            return NULL;
        }
    if (add_visits(visits, args[0]) != DONE)
        return NULL;
    size_t arrival = visits->first_arrival;
    for (size_t visit = visits->first; visit < count; visit++) {
        if (columns[WEIGHTS].numbers[visit] == 0)
            continue;
        Bytes user = visits->users.texts[arrival];
        if (length_of(user)
            && note_asker(args[1], user, product_id_of(visits, columns[ITEM_PLACES].numbers[visit]), columns[CAUSED_AT_MS].numbers[arrival]))
            return NULL;
        arrival++;
    }
    return PyLong_FromLongLong((int64_t)columns[SOURCE_OFFSETS].numbers[count - 1]);
}

PyDoc_STRVAR(visits_ask_doc, "ask(askers, /)\n--\n\nAdd who asks a question to askers; returns how many questions there are.");

static PyObject *
visits_ask(PyObject *self, PyObject *askers)
{
    Visits *visits = (Visits *)self;
    Column places = visits->columns[ASKED_PLACES], caused = visits->columns[ASKED_CAUSED_AT_MS];
    if (!PyDict_CheckExact(askers)) {
        PyErr_SetString(PyExc_TypeError, "a dict is wanted");
        return NULL;
    }
    for (size_t place = 0; place < places.count; place++)
        if (note_asker(askers, visits->askers.texts[place], product_id_of(visits, places.numbers[place]), caused.numbers[place]) != DONE)
            return NULL;
    return PyLong_FromSize_t(places.count);
}

static PyObject *
visits_source_partition(PyObject *self, void *ignored)
{
    return PyLong_FromUnsignedLong(((Visits *)self)->source_partition);
}

static Py_ssize_t
visits_length(PyObject *self)
{
    Visits *visits = (Visits *)self;
    return (Py_ssize_t)(visits->columns[SOURCE_OFFSETS].count - visits->first);
}

static PyMethodDef visits_methods[] = {
    {"skip", visits_skip, METH_O, visits_skip_doc},
    {"items", visits_items, METH_NOARGS, visits_items_doc},
    {"apply", (PyCFunction)(void (*)(void))visits_apply, METH_FASTCALL, visits_apply_doc},
    {"ask", visits_ask, METH_O, visits_ask_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef visits_fields[] = {
    {"source_partition", visits_source_partition, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PySequenceMethods visits_as_sequence = {.sq_length = visits_length};

static PyTypeObject visits_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "app.domain._items.Visits",
    .tp_doc = "A Visits message, read; its length is the number of visits that are not skipped.",
    .tp_basicsize = sizeof(Visits),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = visits_dealloc,
    .tp_methods = visits_methods,
    .tp_getset = visits_fields,
    .tp_as_sequence = &visits_as_sequence,
};

static PyMethodDef methods[] = {
    {"new", item_new, METH_O, item_new_doc},
    {"decode", item_decode, METH_O, item_decode_doc},
    {"encode", item_encode, METH_O, item_encode_doc},
    {"neighbour_list", (PyCFunction)(void (*)(void))item_list, METH_FASTCALL, item_list_doc},
    {"read_visits", visits_read, METH_O, visits_read_doc},
    {NULL, NULL, 0, NULL},
};

static int
items_exec(PyObject *module)
{
    PyObject *text = PyUnicode_FromString("tidings");
    if (text == NULL)
        return -1;
    seed = (uint64_t)PyObject_Hash(text); /* differs from process to process */
    Py_DECREF(text);
    if (PyType_Ready(&item_type) < 0 || PyType_Ready(&visits_type) < 0)
        return -1;
    return PyModule_AddIntConstant(module, "INTERFACE", INTERFACE);
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, items_exec}, {0, NULL}};

static struct PyModuleDef items = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_items",
    .m_doc = "The items at work, compiled.",
    .m_size = 0,
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__items(void)
{
    return PyModuleDef_Init(&items);
}
