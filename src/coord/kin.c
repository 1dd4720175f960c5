/* kin.c - models with weights in common. */
#include "coord/kin.h"

#include "coord/cut_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY 16u
#define ROW (KEY + 12u)
#define BYTES_MAX (((uint64_t)1 << 48) - 1)

/* ---- the text ------------------------------------------------------------------------------- */

struct list {
    struct share_constant *items; /* owned */
    size_t count;
};

static bool add_file(const struct cut *c, int share, struct list *to, struct err *e)
{
    struct share_constant *more;
    size_t count;
    if (share < 0)
        return true;
    if (!share_constants(c->share, (size_t)share, KIN_LEAST, &more, &count, e))
        return false;
    struct share_constant *all = realloc(to->items, (to->count + count + 1) * sizeof(*all));
    if (all) {
        memcpy(all + to->count, more, count * sizeof(*all));
        to->items = all;
        to->count += count;
    }
    free(more);
    return all || err_set(e, ERR_MEMORY, "constants: no memory");
}

static int by_bytes(const void *a, const void *b)
{
    const struct share_constant *x = a, *y = b;
    if (x->bytes != y->bytes)
        return x->bytes > y->bytes ? -1 : 1;
    return x->key < y->key ? -1 : x->key > y->key;
}

static int by_key(const void *a, const void *b)
{
    const struct share_constant *x = a, *y = b;
    return x->key < y->key ? -1 : x->key > y->key;
}

char *kin_text(const struct cut *c, int model, struct err *e)
{
    const struct cut_model *m = &c->models[model];
    struct list l = {0};
    bool ok = true;
    for (int f = 0; ok && f < m->source->file_count; f++)
        ok = add_file(c, m->share[f], &l, e);
    if (ok && l.count > KIN_CONSTANTS_MAX) {
        qsort(l.items, l.count, sizeof(*l.items), by_bytes);
        l.count = KIN_CONSTANTS_MAX;
    }
    if (l.count)
        qsort(l.items, l.count, sizeof(*l.items), by_key);
    char *text = ok ? malloc(l.count * ROW + 1) : NULL, *at = text;
    if (ok && !text)
        err_set(e, ERR_MEMORY, "constants: no memory");
    for (size_t i = 0; text && i < l.count; i++)
        if (i == 0 || l.items[i].key != l.items[i - 1].key)
            at += snprintf(at, ROW + 1, "%016" PRIx64 "%012" PRIx64, l.items[i].key,
                           l.items[i].bytes < BYTES_MAX ? l.items[i].bytes : BYTES_MAX);
    if (text)
        *at = 0;
    free(l.items);
    return text;
}

uint64_t kin_common(const char *a, const char *b)
{
    size_t i = 0, k = 0, rows_a = strlen(a) / ROW, rows_b = strlen(b) / ROW;
    uint64_t sum = 0;
    while (i < rows_a && k < rows_b) {
        int order = memcmp(a + i * ROW, b + k * ROW, KEY);
        if (order == 0) {
            char text[ROW - KEY + 1] = {0};
            memcpy(text, a + i * ROW + KEY, ROW - KEY);
            sum += strtoull(text, NULL, 16);
        }
        i += order <= 0;
        k += order >= 0;
    }
    return sum;
}

/* ---- the choice ----------------------------------------------------------------------------- */

static uint64_t common_of(const char *a, const char *b)
{
    return a && b ? kin_common(a, b) : UINT64_MAX;
}

void kin_choose(const char *of, struct kin_model *models, size_t count, int files_max)
{
    for (size_t i = 0; i < count; i++) {
        models[i].mark = KIN_NONE;
        models[i].common = common_of(of, models[i].constants);
    }
    for (;;) {
        struct kin_model *best = NULL;
        for (size_t i = 0; i < count; i++)
            if (models[i].mark == KIN_NONE && models[i].common >= KIN_BYTES &&
                (!best || models[i].common > best->common))
                best = &models[i];
        if (!best)
            return;
        best->mark = best->files <= files_max ? KIN_CHOSEN : KIN_LEFT_OUT;
        if (best->mark == KIN_LEFT_OUT)
            continue;
        files_max -= best->files;
        for (size_t i = 0; i < count; i++)
            if (models[i].mark == KIN_NONE) {
                uint64_t common = common_of(best->constants, models[i].constants);
                models[i].common = common > models[i].common ? common : models[i].common;
            }
    }
}
