/* nofit.c - why nothing fits.
 *
 * Three proofs, cheapest first: a module that no device can take alone; more bytes than all devices
 * together; and all ways of packing tried (devices in the same state count once), which ends at
 * PACK_NODES_MAX.  What depends on routes (links, load) is proven only by exact_search(). */
#include "plan/search.h"

#include "base/parse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PACK_NODES_MAX 1000000u
#define PACK_MODULES_MAX 512u /* also the depth of the recursion */
#define PACK_DEVICES_MAX 64u
#define HELP_ROOM 220u /* bytes of a text that are kept for what would help */

struct writer {
    char *text;
    size_t size, used;
};

static void say(struct writer *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void say(struct writer *w, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    int n = vsnprintf(w->text + w->used, w->size - w->used, format, list);
    va_end(list);
    if (n > 0)
        w->used = w->used + (size_t)n < w->size ? w->used + (size_t)n : w->size - 1;
}

/* Whether another module may be named. */
static bool has_room(const struct writer *w)
{
    return w->used + HELP_ROOM < w->size;
}

/* Modules that no device can take, even alone. */
static bool homeless(const struct search *s, struct writer *w)
{
    const struct plan_instance *in = s->in;
    uint32_t named = 0, more = 0;
    for (uint32_t m = 0; m < in->module_count; m++) {
        uint32_t largest = UINT32_MAX;
        bool fits = !search_free(s, m);
        for (uint32_t d = 0; d < in->device_count; d++) {
            if (!isfinite(plan_run(in, m, d)))
                continue;
            fits |= plan_may(in, m, d);
            if (largest == UINT32_MAX ||
                in->devices[d].memory_bytes > in->devices[largest].memory_bytes)
                largest = d;
        }
        if (fits || (++named > 1 && !has_room(w) && ++more))
            continue;
        if (largest == UINT32_MAX)
            say(w, "%smodule '%.60s' can run on no device", named > 1 ? "; " : "",
                in->modules[m].name);
        else
            say(w, "%smodule '%.60s' is %.0f bytes short on '%.60s', the largest that can run it",
                named > 1 ? "; " : "", in->modules[m].name,
                in->modules[m].memory_bytes - in->devices[largest].memory_bytes,
                in->devices[largest].name);
    }
    if (more > 0)
        say(w, "; %u more modules", more);
    return named > 0;
}

static bool too_many_bytes(const struct search *s, struct writer *w)
{
    const struct plan_instance *in = s->in;
    double need = 0, have = 0;
    for (uint32_t m = 0; m < in->module_count; m++)
        need += in->modules[m].memory_bytes;
    for (uint32_t d = 0; d < in->device_count; d++)
        have += in->devices[d].memory_bytes;
    if (need <= have || need > PLAN_BYTES_MAX)
        return false;
    say(w, "all modules need %.0f bytes, all devices have %.0f: %.0f bytes short", need, have,
        need - have);
    return true;
}

/* ---- packing ---- */

struct packing {
    const struct search *s;
    uint32_t *order; /* free modules by falling bytes */
    uint32_t count;
    double *left; /* by device */
    uint32_t nodes;
    uint32_t kind[PACK_DEVICES_MAX];
};

/* Devices on which the same modules can run are of one kind: the first of them. */
static void find_kinds(struct packing *p)
{
    const struct plan_instance *in = p->s->in;
    for (uint32_t d = 0; d < in->device_count; d++)
        for (p->kind[d] = 0; p->kind[d] < d; p->kind[d]++) {
            bool same = true;
            for (uint32_t m = 0; same && m < in->module_count; m++)
                same = isfinite(plan_run(in, m, d)) == isfinite(plan_run(in, m, p->kind[d]));
            if (same)
                break;
        }
}

/* Whether a device of the same kind with as much room left has been tried at this step. */
static bool same_as_before(const struct packing *p, uint32_t device)
{
    for (uint32_t d = 0; d < device; d++)
        if (p->kind[d] == p->kind[device] && !(p->left[d] < p->left[device]) &&
            !(p->left[d] > p->left[device]))
            return true;
    return false;
}

/* 1: all fit, 0: proven that not, -1: gave up. */
static int pack(struct packing *p, uint32_t at)
{
    const struct plan_instance *in = p->s->in;
    if (at == p->count)
        return 1;
    if (++p->nodes > PACK_NODES_MAX)
        return -1;
    uint32_t m = p->order[at];
    double bytes = in->modules[m].memory_bytes;
    for (uint32_t d = 0; d < in->device_count; d++) {
        if (!isfinite(plan_run(in, m, d)) || bytes > p->left[d] || same_as_before(p, d))
            continue;
        p->left[d] -= bytes;
        int r = pack(p, at + 1);
        p->left[d] += bytes;
        if (r != 0)
            return r;
    }
    return 0;
}

/* All memory is free but for what pinned modules take. */
static void free_room(struct packing *p)
{
    const struct plan_instance *in = p->s->in;
    for (uint32_t d = 0; d < in->device_count; d++)
        p->left[d] = in->devices[d].memory_bytes;
    for (uint32_t m = 0; m < in->module_count; m++)
        for (uint32_t i = 0; i < p->s->pinned[m].count; i++)
            p->left[p->s->pinned[m].device[i]] -= in->modules[m].memory_bytes;
}

static bool make_packing(const struct search *s, struct packing *p)
{
    const struct plan_instance *in = s->in;
    *p = (struct packing){.s = s,
                          .order = calloc(in->module_count, sizeof(uint32_t)),
                          .left = calloc(in->device_count, sizeof(double))};
    if (!p->order || !p->left)
        return false;
    p->count = search_by_bytes(s, p->order);
    free_room(p);
    return true;
}

/* The device on which most room is left among those that can run it; fitting: the fullest one with
 * room enough instead.  UINT32_MAX: none. */
static uint32_t pick_device(const struct packing *p, uint32_t m, bool fitting)
{
    const struct plan_instance *in = p->s->in;
    double bytes = in->modules[m].memory_bytes;
    uint32_t best = UINT32_MAX;
    for (uint32_t d = 0; d < in->device_count; d++) {
        if (!isfinite(plan_run(in, m, d)) || (fitting && bytes > p->left[d]))
            continue;
        if (best == UINT32_MAX ||
            (fitting ? p->left[d] < p->left[best] : p->left[d] > p->left[best]))
            best = d;
    }
    return best;
}

/* Large ones first, each where it fits best; what finds no room is named with the bytes that are
 * missing. */
static uint32_t name_left_over(struct packing *p, struct writer *w)
{
    const struct plan_instance *in = p->s->in;
    uint32_t named = 0, more = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        uint32_t m = p->order[i], d = pick_device(p, m, true);
        double bytes = in->modules[m].memory_bytes;
        if (d != UINT32_MAX) {
            p->left[d] -= bytes;
            continue;
        }
        d = pick_device(p, m, false);
        if (d == UINT32_MAX || (++named > 1 && !has_room(w) && ++more))
            continue;
        say(w, "%smodule '%.60s' finds no room: %.0f bytes short on '%.60s'",
            w->used > 0 ? "; " : "", in->modules[m].name, bytes - p->left[d], in->devices[d].name);
    }
    if (more > 0)
        say(w, "; %u more modules", more);
    return named;
}

/* ---- what would help ---- */

/* Packs as above, what finds no room onto one device in excess of its memory: how many bytes that
 * takes.  false: there is no device that can run all of that.  skip: by module, left out; or NULL. */
static bool pack_on(struct packing *p, const bool *skip, uint32_t *ret_device, double *ret_bytes)
{
    const struct plan_instance *in = p->s->in;
    uint32_t help = UINT32_MAX;
    free_room(p);
    for (uint32_t i = 0; i < p->count; i++) {
        uint32_t m = p->order[i], d = pick_device(p, m, true);
        if (skip && skip[m])
            continue;
        if (d == UINT32_MAX) {
            help = help == UINT32_MAX ? pick_device(p, m, false) : help;
            if (help == UINT32_MAX || !isfinite(plan_run(in, m, help)))
                return false;
            d = help;
        }
        p->left[d] -= in->modules[m].memory_bytes;
    }
    *ret_device = help;
    *ret_bytes = help == UINT32_MAX ? 0 : -p->left[help];
    return true;
}

/* The modules that only this model uses. */
static double only_of(const struct plan_instance *in, uint32_t model, const uint32_t *models_of,
                      bool *skip)
{
    double bytes = 0;
    memset(skip, 0, in->module_count);
    for (uint32_t i = 0; i < in->models[model].slot_count; i++) {
        uint32_t m = in->models[model].modules[i];
        skip[m] = models_of[m] == 1;
        bytes += skip[m] ? in->modules[m].memory_bytes : 0;
    }
    return bytes;
}

/* The model with the fewest bytes of its own without which the others find room; UINT32_MAX: none
 * was found. */
static uint32_t model_too_many(struct packing *p)
{
    const struct plan_instance *in = p->s->in;
    uint32_t *models_of = calloc(in->module_count, sizeof(uint32_t)), best = UINT32_MAX;
    bool *skip = calloc(in->module_count, sizeof(bool));
    double least = INFINITY;
    for (uint32_t k = 0; models_of && k < in->model_count; k++)
        for (uint32_t i = 0; i < in->models[k].slot_count; i++)
            models_of[in->models[k].modules[i]]++;
    for (uint32_t k = 0; models_of && skip && in->model_count > 1 && k < in->model_count; k++) {
        uint32_t device;
        double more, bytes = only_of(in, k, models_of, skip);
        if (bytes < least && pack_on(p, skip, &device, &more) && device == UINT32_MAX) {
            best = k;
            least = bytes;
        }
    }
    free(models_of);
    free(skip);
    return best;
}

/* Changes that make room for all modules, by a packing that shows it; nothing says that there is no
 * smaller one. */
static void say_help(struct packing *p, struct writer *w)
{
    const struct plan_instance *in = p->s->in;
    uint32_t device, model = UINT32_MAX;
    double bytes;
    bool more = pack_on(p, NULL, &device, &bytes) && device != UINT32_MAX;
    if (p->count <= PACK_MODULES_MAX && in->model_count <= PACK_MODULES_MAX)
        model = model_too_many(p);
    if (more)
        say(w, "; there would be room with %.0f bytes more on '%.60s'", bytes,
            in->devices[device].name);
    if (model != UINT32_MAX)
        say(w, "%s without the model '%.60s'", more ? ", or" : "; there would be room",
            in->models[model].name);
}

static bool over_pinned(const struct search *s, struct writer *w)
{
    const struct plan_instance *in = s->in;
    for (uint32_t d = 0; d < in->device_count; d++) {
        double bytes = 0;
        for (uint32_t m = 0; m < in->module_count; m++)
            for (uint32_t i = 0; i < s->pinned[m].count; i++)
                bytes += s->pinned[m].device[i] == d ? in->modules[m].memory_bytes : 0;
        if (bytes > in->devices[d].memory_bytes) {
            say(w, "what is pinned to '%.60s' is %.0f bytes too much", in->devices[d].name,
                bytes - in->devices[d].memory_bytes);
            return true;
        }
    }
    return false;
}

/* What is missing, after a proof. */
static void say_missing(struct packing *p, struct writer *w, bool named)
{
    if (!named && name_left_over(p, w) == 0)
        say(w, "%sthe modules do not fit together", w->used > 0 ? "; " : "");
    say_help(p, w);
}

bool nofit_proven(struct search *s, char *text, size_t size)
{
    struct writer w = {text, size, 0};
    struct packing p;
    bool alone = homeless(s, &w), pinned = !alone && over_pinned(s, &w);
    bool proven = alone || (!pinned && too_many_bytes(s, &w)), made = make_packing(s, &p);
    if (!pinned && !proven && made && p.count <= PACK_MODULES_MAX &&
        s->in->device_count <= PACK_DEVICES_MAX) {
        find_kinds(&p);
        proven = pack(&p, 0) == 0;
    }
    if (proven && made)
        say_missing(&p, &w, alone);
    free(p.order);
    free(p.left);
    return proven || pinned;
}

void nofit_text(struct search *s, char *text, size_t size)
{
    struct writer w = {text, size, 0};
    struct packing p;
    text[0] = '\0';
    if (!make_packing(s, &p) || name_left_over(&p, &w) == 0)
        say(&w, "where memory suffices, a request has no route (links, run times, or load)");
    free(p.order);
    free(p.left);
}
