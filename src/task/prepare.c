/* prepare.c - processors by digest.
 *
 * A kept processor is counted: whoever runs it holds it, so dropping the least recently used one
 * never pulls it away from a run. */
#include "task/prepare.h"

#include "base/sync.h"
#include "media/processor.h"
#include "media/tokenizer.h"

#include <stdlib.h>
#include <string.h>

struct kept {
    struct kept *next;
    enum media_kind kind;
    char config[DIGEST_HEX + 1];
    struct processor *processor;
    int holders; /* the list and the runs; under the lock */
};

struct prepare {
    struct monitor lock;
    struct kept *list; /* most recently used first */
    int count, max;
    bool (*side_file)(void *ctx, const char *digest, char **ret, size_t *size, struct err *e);
    void *ctx;
};

struct prepare *prepare_new(int max,
                            bool (*side_file)(void *ctx, const char *digest, char **ret,
                                              size_t *size, struct err *e),
                            void *ctx)
{
    struct prepare *p = calloc(1, sizeof(*p));
    if (!p)
        return NULL;
    monitor_init(&p->lock);
    p->max = max;
    p->side_file = side_file;
    p->ctx = ctx;
    return p;
}

static void drop(struct kept *k)
{
    if (--k->holders > 0)
        return;
    processor_destroy(k->processor);
    free(k);
}

void prepare_free(struct prepare *p)
{
    if (!p)
        return;
    while (p->list) {
        struct kept *k = p->list;
        p->list = k->next;
        drop(k);
    }
    monitor_destroy(&p->lock);
    free(p);
}

static bool make(enum media_kind kind, const char *config, const char *text, size_t size,
                 struct processor **ret, struct err *e)
{
    if (kind == MEDIA_IMAGE)
        return processor_create_image(text, size, ret, e);
    if (kind == MEDIA_AUDIO)
        return processor_create_audio(text, size, ret, e);
    struct tokenizer *t;
    struct digest d;
    memcpy(d.hex, config, sizeof(d.hex));
    if (!tokenizer_create(text, size, &t, e))
        return false;
    if (processor_create_text(t, &d, ret, e))
        return true;
    tokenizer_destroy(t);
    return false;
}

/* With the lock held: finds it and puts it first. */
static struct kept *find(struct prepare *p, enum media_kind kind, const char *config)
{
    for (struct kept **at = &p->list; *at; at = &(*at)->next) {
        struct kept *k = *at;
        if (k->kind != kind || strcmp(k->config, config) != 0)
            continue;
        *at = k->next;
        k->next = p->list;
        p->list = k;
        k->holders++;
        return k;
    }
    return NULL;
}

/* With the lock held. */
static void keep(struct prepare *p, struct kept *k)
{
    k->next = p->list;
    p->list = k;
    if (++p->count <= p->max)
        return;
    struct kept **at = &p->list;
    while ((*at)->next)
        at = &(*at)->next;
    struct kept *oldest = *at;
    *at = NULL;
    p->count--;
    drop(oldest);
}

static struct kept *take(struct prepare *p, enum media_kind kind, const char *config, struct err *e)
{
    monitor_lock(&p->lock);
    struct kept *k = find(p, kind, config);
    monitor_unlock(&p->lock);
    if (k)
        return k;
    char *text;
    size_t size;
    if (!p->side_file(p->ctx, config, &text, &size, e))
        return NULL;
    struct processor *made;
    bool ok = make(kind, config, text, size, &made, e);
    free(text);
    if (!ok)
        return NULL;
    struct kept *fresh = calloc(1, sizeof(*fresh));
    if (!fresh) {
        processor_destroy(made);
        err_set(e, ERR_MEMORY, "prepare: no memory");
        return NULL;
    }
    *fresh = (struct kept){.kind = kind, .processor = made, .holders = 2};
    memcpy(fresh->config, config, sizeof(fresh->config));
    monitor_lock(&p->lock);
    k = find(p, kind, config); /* another thread may have been faster */
    if (k) {
        fresh->holders = 1;
        drop(fresh);
    } else {
        keep(p, fresh);
        k = fresh;
    }
    monitor_unlock(&p->lock);
    return k;
}

static void give(struct prepare *p, struct kept *k)
{
    monitor_lock(&p->lock);
    drop(k);
    monitor_unlock(&p->lock);
}

bool prepare_run(struct prepare *p, const char *kind, const char *config, const void *data,
                 size_t size, struct named_tensor *out, int room, int *made, struct err *e)
{
    enum media_kind k;
    *made = 0;
    if (!media_kind_from_name(kind, &k) || !digest_valid(config))
        return err_set(e, ERR_INVALID, "prepare: kind '%.20s' or digest '%.20s' is unknown", kind,
                       config);
    struct kept *held = take(p, k, config, e);
    if (!held)
        return false;
    size_t n = 0;
    bool ok = processor_run(held->processor, data, size, out, room > 0 ? (size_t)room : 0, &n, e);
    give(p, held);
    *made = ok ? (int)n : 0;
    if (!ok && e && (strncmp(e->text, kind, strlen(kind)) != 0 || e->text[strlen(kind)] != ':'))
        err_prefix(e, "%s", kind);
    return ok;
}

int prepare_port(const struct port *ports, int port_count, const bool *taken, enum dtype dtype,
                 int rank)
{
    int found = -1;
    for (int i = 0; i < port_count; i++)
        if (!taken[i] && ports[i].dtype == dtype && ports[i].shape.rank == rank) {
            if (found >= 0)
                return -1;
            found = i;
        }
    return found;
}

static int port_named(const struct port *ports, int port_count, const char *name)
{
    for (int i = 0; i < port_count; i++)
        if (strcmp(ports[i].name, name) == 0)
            return i;
    return -1;
}

static void name_first(const struct port *ports, int port_count, const int *first, int first_count,
                       struct named_tensor *inputs, int count)
{
    bool taken[PREPARE_PORTS_MAX] = {false};
    for (int i = 0; i < count; i++) {
        int port = port_named(ports, port_count, inputs[i].name);
        if (port >= 0)
            taken[port] = true;
    }
    for (int k = 0; k < first_count; k++) {
        struct named_tensor *t = &inputs[first[k]];
        if (port_named(ports, port_count, t->name) >= 0)
            continue;
        int port = prepare_port(ports, port_count, taken, t->tensor.dtype, t->tensor.shape.rank);
        if (port < 0)
            continue;
        taken[port] = true;
        memcpy(t->name, ports[port].name, sizeof(t->name));
    }
}

int prepare_match(const struct port *ports, int port_count, const int *first, int first_count,
                  struct named_tensor *inputs, int count)
{
    int kept = 0;
    if (port_count <= PREPARE_PORTS_MAX)
        name_first(ports, port_count, first, first_count, inputs, count);
    for (int i = 0; i < count; i++) {
        struct named_tensor t = inputs[i];
        if (port_named(ports, port_count, t.name) < 0) {
            tensor_clear(&inputs[i].tensor);
            continue;
        }
        inputs[i].tensor = (struct tensor){0};
        inputs[kept++] = t;
    }
    return kept;
}

bool prepare_decode(struct prepare *p, const char *config, const int64_t *ids, size_t count,
                    char **ret, struct err *e)
{
    if (!digest_valid(config))
        return err_set(e, ERR_INVALID, "prepare: digest '%.20s'", config);
    struct kept *held = take(p, MEDIA_TEXT, config, e);
    if (!held)
        return false;
    bool ok = tokenizer_decode(processor_tokenizer(held->processor), ids, count, true, ret, e);
    give(p, held);
    return ok;
}
