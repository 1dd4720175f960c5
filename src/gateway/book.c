/* book.c - the current table with its programs read once, not once per request. */
#include "gateway/internal.h"

#include <stdlib.h>
#include <string.h>

void book_unref(struct book *b)
{
    if (!b || atomic_fetch_sub(&b->refs, 1) != 1)
        return;
    for (uint32_t i = 0; b->programs && i < b->table->model_count; i++)
        if (b->programs[i])
            model_programs_free(b->programs[i], b->counts[i]);
    free(b->programs);
    free(b->counts);
    table_unref(b->table);
    free(b);
}

/* Takes over the reference of the table. */
static struct book *read_book(struct table *t)
{
    struct book *b = calloc(1, sizeof(*b));
    if (!b) {
        table_unref(t);
        return NULL;
    }
    atomic_init(&b->refs, 1);
    b->table = t;
    b->programs = calloc(t->model_count + 1u, sizeof(*b->programs));
    b->counts = calloc(t->model_count + 1u, sizeof(*b->counts));
    for (uint32_t i = 0; b->programs && b->counts && i < t->model_count; i++)
        if (!model_programs(t->models[i].programs, &b->programs[i], &b->counts[i], NULL))
            b->programs[i] = NULL;
    if (!b->programs || !b->counts) {
        book_unref(b);
        return NULL;
    }
    return b;
}

struct book *gateway_book(struct gateway *g)
{
    struct table *t = table_slot_get(g->options.slot);
    if (!t)
        return NULL;
    monitor_lock(&g->lock);
    if (!g->book || g->book->table != t) {
        struct book *fresh = read_book(table_ref(t));
        if (fresh) {
            book_unref(g->book);
            g->book = fresh;
        }
    }
    struct book *b = g->book;
    if (b)
        atomic_fetch_add(&b->refs, 1);
    monitor_unlock(&g->lock);
    table_unref(t);
    return b;
}

int book_model(const struct book *b, const char *name)
{
    for (uint32_t i = 0; i < b->table->model_count; i++)
        if (strcmp(b->table->models[i].name, name) == 0)
            return (int)i;
    return -1;
}
