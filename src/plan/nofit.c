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
#define NAMES_MAX 6u

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

/* Modules that no device can take, even alone. */
static bool homeless(const struct search *s, struct writer *w)
{
    const struct plan_instance *in = s->in;
    uint32_t named = 0;
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
        if (fits || named++ >= NAMES_MAX)
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

static bool make_packing(const struct search *s, struct packing *p)
{
    const struct plan_instance *in = s->in;
    *p = (struct packing){.s = s,
                          .order = calloc(in->module_count, sizeof(uint32_t)),
                          .left = calloc(in->device_count, sizeof(double))};
    if (!p->order || !p->left)
        return false;
    for (uint32_t d = 0; d < in->device_count; d++)
        p->left[d] = in->devices[d].memory_bytes;
    for (uint32_t m = 0; m < in->module_count; m++) {
        if (search_free(s, m)) {
            uint32_t i = p->count++;
            for (; i > 0 && in->modules[p->order[i - 1]].memory_bytes < in->modules[m].memory_bytes;
                 i--)
                p->order[i] = p->order[i - 1];
            p->order[i] = m;
        }
        for (uint32_t i = 0; i < s->pinned[m].count; i++)
            p->left[s->pinned[m].device[i]] -= in->modules[m].memory_bytes;
    }
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
 * missing, and then the memory that would make room for all of it on one device. */
static bool left_over(struct packing *p, struct writer *w)
{
    const struct plan_instance *in = p->s->in;
    uint32_t named = 0, help = UINT32_MAX;
    bool helps = true;
    for (uint32_t i = 0; i < p->count; i++) {
        uint32_t m = p->order[i], d = pick_device(p, m, true);
        double bytes = in->modules[m].memory_bytes;
        if (d != UINT32_MAX) {
            p->left[d] -= bytes;
            continue;
        }
        d = pick_device(p, m, false);
        if (d == UINT32_MAX)
            continue;
        if (named++ < NAMES_MAX)
            say(w, "%smodule '%.60s' finds no room: %.0f bytes short on '%.60s'",
                w->used > 0 ? "; " : "", in->modules[m].name, bytes - p->left[d],
                in->devices[d].name);
        help = help == UINT32_MAX ? d : help;
        helps = helps && isfinite(plan_run(in, m, help));
        p->left[help] -= helps ? bytes : 0;
    }
    if (named > 1 && helps)
        say(w, "; %.0f bytes more on '%.60s' would make room for all", -p->left[help],
            in->devices[help].name);
    return named > 0;
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

bool nofit_proven(struct search *s, char *text, size_t size)
{
    struct writer w = {text, size, 0};
    struct packing p;
    if (homeless(s, &w) || over_pinned(s, &w))
        return true;
    bool proven = too_many_bytes(s, &w), made = make_packing(s, &p);
    if (!proven && made && p.count <= PACK_MODULES_MAX && s->in->device_count <= PACK_DEVICES_MAX) {
        find_kinds(&p);
        proven = pack(&p, 0) == 0;
    }
    if (proven && !(made && left_over(&p, &w)) && w.used == 0)
        say(&w, "the modules do not fit together");
    free(p.order);
    free(p.left);
    return proven;
}

void nofit_text(struct search *s, char *text, size_t size)
{
    struct writer w = {text, size, 0};
    struct packing p;
    text[0] = '\0';
    if (!make_packing(s, &p) || !left_over(&p, &w))
        say(&w, "where memory suffices, a request has no route (links, run times, or load)");
    free(p.order);
    free(p.left);
}
