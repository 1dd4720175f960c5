/* flight.c - one request over the devices.
 *
 * An attempt: choose a device for each call instance (a call, or one per candidate), send them all
 * at once, wait for all.  The first that fails ends the others of the attempt.  What a dead device
 * caused is tried again on other replicas; encoders that have run answer from their cache then.
 *
 * Threads: the handler's thread and up to WORKERS_MAX - 1 more pull instances from the list; what
 * an instance takes from stands before it there, so a waiting one never keeps that from starting.
 * What is made for each candidate comes candidate by candidate, so that few wait at once. */
#include "base/cancel.h"
#include "base/clock.h"
#include "gateway/internal.h"
#include "task/answer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORKERS_MAX 32
#define ATTEMPTS_MAX 6
#define RETRY_PAUSE_MS 150

/* One call of one attempt. */
struct instance {
    int call, item;
    int device; /* index in the table */
    const struct table_module *module;
    double expected_ms;
    double start_ms, end_ms; /* since the request came */
    bool ok;
    struct err error;
    int to_blame; /* when error is ERR_GONE: the device that is gone, in most cases its own */
    struct call_answer answer; /* owned when ok */
};

struct attempt {
    struct flight *flight;
    uint32_t number;
    struct instance *list;
    int count;
    const struct table_module *unplaced; /* the module that no device was found for */
    int once;                            /* instances of calls made once: they come first */
    int each;                            /* calls made for each candidate */
    int rank[PROGRAM_CALLS_MAX];         /* of a call among those of its kind */
    atomic_int next;
    atomic_bool failed;
    struct cancel *cancel; /* fired by the client, or by the first failure */
};

/* ---- which instances, and where ------------------------------------------------------------- */

static struct instance *instance_of(const struct attempt *a, int call, int item)
{
    bool each = a->flight->program->calls[call].each;
    return &a->list[each ? a->once + item * a->each + a->rank[call] : a->rank[call]];
}

static bool make_list(struct attempt *a, struct err *e)
{
    const struct program *p = a->flight->program;
    int items = a->flight->request->candidate_count;
    for (int c = 0; c < p->call_count; c++)
        a->rank[c] = p->calls[c].each ? a->each++ : a->once++;
    a->count = a->once + a->each * items;
    a->list = calloc((size_t)a->count + 1, sizeof(*a->list));
    if (!a->list) {
        int n = a->count;
        a->count = 0;
        return err_set(e, ERR_MEMORY, "gateway: no memory for %d calls", n);
    }
    for (int c = 0; c < p->call_count; c++)
        for (int i = 0; i < (p->calls[c].each ? items : 1); i++)
            *instance_of(a, c, i) = (struct instance){.call = c, .item = i, .device = -1};
    return true;
}

/* Where a call's inputs come from, and how many bytes. */
static double sources(const struct attempt *a, const struct program_call *c, int item, int self,
                      int *from, int *count)
{
    double bytes = 0;
    *count = 0;
    for (int i = 0; i < c->input_count; i++) {
        const struct program_input *in = &c->inputs[i];
        if (in->media) {
            from[(*count)++] = self;
            bytes += (double)mem_size(request_media(a->flight->request, c, in->kind, item));
        } else {
            from[(*count)++] = instance_of(a, in->call, item)->device;
            bytes += (double)in->bytes;
        }
    }
    return bytes;
}

static int self_index(const struct flight *f)
{
    const struct gateway_options *o = &f->gateway->options;
    const struct table_device *d = table_find_device(f->table, o->self_id(o->ctx));
    return d ? (int)(d - f->table->devices) : -1;
}

static bool place(struct attempt *a, const bool *banned, struct err *e)
{
    struct flight *f = a->flight;
    int self = self_index(f);
    for (int i = 0; i < a->count; i++) {
        struct instance *x = &a->list[i];
        const struct program_call *c = &f->program->calls[x->call];
        int from[PROGRAM_INPUTS_MAX], count;
        x->module = table_find_module(f->table, c->module.hex);
        if (!x->module)
            return err_set(e, ERR_NO_PLACE, "module %.12s: is not in the routing table",
                           c->module.hex);
        double bytes = sources(a, c, x->item, self, from, &count);
        double runs = c->generate ? load_mean_steps(f->gateway->load) : 1;
        x->device =
            route_choose(f->gateway, f->table, x->module, from, count, bytes, runs, banned, e);
        if (x->device < 0) {
            a->unplaced = x->module;
            return false;
        }
        for (uint32_t r = 0; r < x->module->replica_count; r++)
            if ((int)x->module->replicas[r].device == x->device)
                x->expected_ms = runs * x->module->replicas[r].run_ms;
        load_begin(f->gateway->load, f->table->devices[x->device].id, x->expected_ms);
    }
    return true;
}

/* ---- the message of one call ------------------------------------------------------------------ */

static bool waits(const struct program_call *c)
{
    for (int i = 0; i < c->input_count; i++)
        if (!c->inputs[i].media)
            return true;
    return false;
}

static uint64_t reserve_of(const struct program_call *c)
{
    uint64_t n = 0;
    for (int i = 0; i < c->input_count; i++)
        n += c->inputs[i].media ? 0 : c->inputs[i].bytes;
    return n < WIRE_BODY_MAX ? n : WIRE_BODY_MAX;
}

static void add_inputs(const struct flight *f, const struct program_call *c, int item,
                       struct call *m)
{
    for (int i = 0; i < c->input_count; i++) {
        const struct program_input *in = &c->inputs[i];
        struct call_input *to = &m->inputs[m->input_count++];
        to->source = in->media ? CALL_MEDIA : CALL_MEETING;
        if (in->media) {
            (void)snprintf(to->kind, sizeof(to->kind), "%s", media_kind_name(in->kind));
            to->config = in->config;
            to->media = mem_ref(request_media(f->request, c, in->kind, item));
        } else {
            memcpy(to->port, in->port, sizeof(to->port));
        }
    }
}

/* A call's name in the messages; of those for each candidate with its number. */
static void name_call(const struct program_call *c, int item, char to[WIRE_ID_MAX])
{
    if (c->each)
        (void)snprintf(to, WIRE_ID_MAX, "%.50s#%d", c->id, item);
    else
        memcpy(to, c->id, WIRE_ID_MAX);
}

/* Whom this call's outputs go to. */
static void add_targets(const struct attempt *a, const struct instance *x, struct call *m)
{
    const struct program *p = a->flight->program;
    for (int c = 0; c < p->call_count; c++)
        for (int i = 0; i < p->calls[c].input_count; i++) {
            const struct program_input *in = &p->calls[c].inputs[i];
            if (in->media || in->call != x->call || m->target_count >= WIRE_TARGETS_MAX)
                continue;
            struct call_target *t = &m->targets[m->target_count++];
            int device = instance_of(a, c, x->item)->device;
            memcpy(t->device, a->flight->table->devices[device].id, sizeof(t->device));
            name_call(&p->calls[c], x->item, t->call);
            memcpy(t->output, in->output, sizeof(t->output));
            memcpy(t->port, in->port, sizeof(t->port));
            t->reserve = reserve_of(&p->calls[c]);
        }
}

static void add_returns(const struct program *p, int call, struct call *m)
{
    const struct program_answer *a = &p->answer;
    const char *name = a->kind == ANSWER_TEXT ? NULL : call == a->call ? a->output : NULL;
    if (a->kind == ANSWER_SIMILARITY && call == a->other)
        name = a->other_output;
    if (name)
        (void)snprintf(m->returns[m->return_count++], TENSOR_NAME_MAX, "%s", name);
}

static json_t *generation_of(const struct flight *f)
{
    json_t *o = f->program->generation ? json_deep_copy(f->program->generation) : json_object();
    if (f->request->max_new_tokens > 0)
        json_object_set_new(o, "max_new_tokens", json_integer(f->request->max_new_tokens));
    return o;
}

static void fill_call(const struct attempt *a, const struct instance *x, struct call *m)
{
    const struct flight *f = a->flight;
    const struct program_call *c = &f->program->calls[x->call];
    (void)snprintf(m->key.request, sizeof(m->key.request), "%s", f->id);
    name_call(c, x->item, m->key.call);
    m->key.attempt = a->number;
    m->module = c->module;
    m->deadline_ms = (uint64_t)clock_left_ms(f->deadline_ns, 3600000);
    m->reserve = waits(c) ? reserve_of(c) : 0;
    m->fresh = f->fresh;
    m->generate = c->generate;
    m->generation = c->generate ? generation_of(f) : NULL;
    add_inputs(f, c, x->item, m);
    add_targets(a, x, m);
    add_returns(f->program, x->call, m);
}

/* ---- sending ---------------------------------------------------------------------------------- */

static bool send_call(const struct attempt *a, const struct instance *x,
                      const struct frame_out *out, struct net_answer *answer, struct err *e)
{
    const struct flight *f = a->flight;
    struct net_part body[WIRE_PARTS_MAX + 1] = {{out->head.data, out->head.size}};
    char url[WIRE_URL_MAX + 32];
    for (int i = 0; i < out->part_count; i++)
        body[i + 1] = (struct net_part){out->parts[i].data, out->parts[i].size};
    (void)snprintf(url, sizeof(url), "%s/s2m3/v1/call", f->table->devices[x->device].peer_url);
    struct net_header type = {"Content-Type", FRAME_CONTENT_TYPE};
    struct net_call call = {.method = "POST",
                            .url = url,
                            .headers = &type,
                            .header_count = 1,
                            .parts = body,
                            .part_count = (size_t)out->part_count + 1,
                            .deadline_ns = f->deadline_ns,
                            .cancel = a->cancel};
    return net_call(f->gateway->options.client, &call, answer, e);
}

/* A device that answers an error may say that it is another one that it could not reach. */
static int who_is_gone(const struct attempt *a, const struct instance *x,
                       const struct net_answer *answer)
{
    const struct table *t = a->flight->table;
    char id[WIRE_ID_MAX];
    const struct table_device *d = net_answer_header(answer, CALL_UNREACHED_HEADER, id, sizeof(id))
                                       ? table_find_device(t, id)
                                       : NULL;
    return d ? (int)(d - t->devices) : x->device;
}

static bool post_call(const struct attempt *a, struct instance *x, const struct call *m,
                      struct call_answer *ret, struct err *e)
{
    struct frame_out out;
    struct net_answer answer;
    x->to_blame = x->device;
    bool ok = call_write(m, &out, e) && send_call(a, x, &out, &answer, e);
    frame_out_clear(&out);
    if (!ok)
        return false;
    ok = net_answer_err(&answer, e);
    if (!ok) {
        x->to_blame = who_is_gone(a, x, &answer);
    } else {
        struct mem *bytes = mem_wrap(answer.body, answer.size, free, answer.body);
        answer.body = bytes ? NULL : answer.body;
        ok = bytes ? call_answer_read(bytes, ret, e) : err_set(e, ERR_MEMORY, "gateway: no memory");
        mem_unref(bytes);
    }
    net_answer_clear(&answer);
    return ok;
}

static void note_span(const struct attempt *a, const struct instance *x, const struct call *m)
{
    const struct flight *f = a->flight;
    struct span s = {
        .attempt = a->number, .start_ms = x->start_ms, .total_ms = x->end_ms - x->start_ms};
    memcpy(s.call, m->key.call, sizeof(s.call));
    (void)snprintf(s.module, sizeof(s.module), "%s", x->module->name);
    (void)snprintf(s.digest, sizeof(s.digest), "%.12s", x->module->digest.hex);
    (void)snprintf(s.device, sizeof(s.device), "%s", f->table->devices[x->device].name);
    if (x->ok)
        s.times = x->answer.times;
    else
        (void)snprintf(s.error, sizeof(s.error), "%.150s", x->error.text);
    trace_add(f->trace, &s);
}

/* What a call's end says about the device; its work is under way no more. */
static void note_load(struct flight *f, struct instance *x)
{
    struct load *l = f->gateway->load;
    const char *device = f->table->devices[x->device].id;
    load_end(l, device, x->expected_ms);
    x->expected_ms = 0;
    if (x->ok) {
        load_worked(l, device);
        if (!x->answer.times.cached)
            load_waited(l, device, x->answer.times.queue_ms);
        if (x->answer.tokens > 0)
            load_steps(l, x->answer.tokens);
    } else if (x->error.code == ERR_GONE) {
        load_failed(l, f->table->devices[x->to_blame].id);
    }
}

static void run_instance(struct attempt *a, struct instance *x)
{
    struct flight *f = a->flight;
    struct call *m = calloc(1, sizeof(*m));
    x->start_ms = clock_ms_since(f->start_ns);
    if (!m) {
        err_set(&x->error, ERR_MEMORY, "gateway: no memory");
        atomic_store(&a->failed, true);
        return;
    }
    fill_call(a, x, m);
    atomic_fetch_add(&f->gateway->counters.calls, 1);
    x->ok = post_call(a, x, m, &x->answer, &x->error);
    x->end_ms = clock_ms_since(f->start_ns);
    note_span(a, x, m);
    call_clear(m);
    free(m);
    note_load(f, x);
    if (!x->ok && !atomic_exchange(&a->failed, true))
        cancel_fire(a->cancel);
}

static void *work(void *attempt)
{
    struct attempt *a = attempt;
    for (;;) {
        int i = atomic_fetch_add(&a->next, 1);
        if (i >= a->count)
            return NULL;
        if (atomic_load(&a->failed)) {
            err_set(&a->list[i].error, ERR_CANCELLED, "not sent");
            continue;
        }
        run_instance(a, &a->list[i]);
    }
}

static void fire(void *cancel)
{
    cancel_fire(cancel);
}

/* Runs all instances; the own thread works too. */
static void run_all(struct attempt *a)
{
    pthread_t threads[WORKERS_MAX];
    int started = 0, want = a->count < WORKERS_MAX ? a->count : WORKERS_MAX;
    struct err e;
    struct cancel_watch watch = {.fired = fire, .arg = a->cancel};
    cancel_watch(a->flight->cancel, &watch);
    while (started < want - 1 && thread_start(&threads[started], "s2m3-call", work, a, &e))
        started++;
    (void)work(a);
    for (int i = 0; i < started; i++)
        (void)pthread_join(threads[i], NULL);
    cancel_unwatch(a->flight->cancel, &watch);
}

/* ---- attempts ----------------------------------------------------------------------------------- */

static void clear_attempt(struct attempt *a)
{
    struct flight *f = a->flight;
    for (int i = 0; i < a->count; i++) {
        struct instance *x = &a->list[i];
        if (x->module && x->device >= 0)
            load_end(f->gateway->load, f->table->devices[x->device].id, x->expected_ms);
        if (x->ok)
            call_answer_clear(&x->answer);
    }
    free(a->list);
    cancel_unref(a->cancel);
}

/* The failure that the others were ended by, not one of those. */
static const struct instance *cause(const struct attempt *a)
{
    const struct instance *found = NULL;
    for (int i = 0; i < a->count; i++) {
        const struct instance *x = &a->list[i];
        if (x->ok)
            continue;
        if (!found || (found->error.code == ERR_CANCELLED && x->error.code != ERR_CANCELLED))
            found = x;
    }
    return found;
}

static bool make_answer(const struct attempt *a, json_t **ret, struct err *e)
{
    struct flight *f = a->flight;
    const struct program_answer *want = &f->program->answer;
    struct answer_input in = {0};
    struct tensor *candidates =
        calloc((size_t)f->request->candidate_count + 1, sizeof(*candidates));
    if (!candidates)
        return err_set(e, ERR_MEMORY, "gateway: no memory");
    bool whole = true;
    for (int i = 0; i < a->count; i++) {
        const struct instance *x = &a->list[i];
        const struct call_answer *got = &x->answer;
        f->from_cache = f->from_cache || got->times.cached;
        if (want->kind == ANSWER_SIMILARITY && x->call == want->other) {
            whole = whole && got->output_count == 1;
            f->runs += !got->times.cached;
            candidates[x->item] = got->outputs[0].tensor;
        } else if (x->call == want->call) {
            f->runs += (int)got->tokens;
            in.text = got->text;
            in.value = got->output_count ? &got->outputs[0].tensor : NULL;
        }
    }
    in.candidates = candidates;
    in.candidate_count = f->request->candidate_count;
    whole = whole && (want->kind == ANSWER_TEXT ? in.text != NULL : in.value != NULL);
    bool ok = whole ? answer_make(f->program, f->request, &in, ret, e)
                    : err_set(e, ERR_INTERNAL, "gateway: a device left an output out");
    free(candidates);
    return ok;
}

/* ---- what the planner's model knows of a request's time ------------------------------------------ */

static double sent_ms(const struct attempt *a, int from, int to, double bytes)
{
    return from < 0 || to < 0 ? 0 : route_transfer_ms(a->flight->table, from, to, bytes);
}

/* Of the calls that x takes tensors from, the one that ended last, and their bytes; NULL: of none. */
static const struct instance *before(const struct attempt *a, const struct instance *x,
                                     double *bytes)
{
    const struct program_call *c = &a->flight->program->calls[x->call];
    const struct instance *last = NULL;
    *bytes = 0;
    for (int i = 0; i < c->input_count; i++) {
        if (c->inputs[i].media)
            continue;
        const struct instance *y = instance_of(a, c->inputs[i].call, x->item);
        if (!last || y->end_ms > last->end_ms) {
            last = y;
            *bytes = (double)c->inputs[i].bytes;
        }
    }
    return last;
}

/* Transfers of the calls that the answer waited for: from the one that ended last back to the one
 * that began. */
static double transfers_ms(const struct attempt *a)
{
    const struct instance *x = NULL;
    int self = self_index(a->flight);
    for (int i = 0; i < a->count; i++)
        if (!x || a->list[i].end_ms > x->end_ms)
            x = &a->list[i];
    double ms = x ? sent_ms(a, x->device, self, 0) : 0;
    while (x) {
        double bytes;
        const struct instance *y = before(a, x, &bytes);
        int from[PROGRAM_INPUTS_MAX], count;
        if (!y)
            bytes = sources(a, &a->flight->program->calls[x->call], x->item, self, from, &count);
        ms += sent_ms(a, y ? y->device : self, x->device, bytes);
        x = y;
    }
    return ms;
}

/* When a call waited for its lane and ran.  What its device does not account for is taken to be
 * half before and half after. */
struct busy {
    double from, to;
};

static struct busy busy_of(const struct instance *x)
{
    const struct call_times *t = &x->answer.times;
    double ran = t->queue_ms + t->run_ms, told = t->wait_ms + t->prepare_ms + ran + t->deliver_ms;
    double rest = x->end_ms - x->start_ms - told;
    double to = x->end_ms - t->deliver_ms - (rest > 0 ? rest / 2 : 0);
    return (struct busy){to - ran, to};
}

static int by_start(const void *a, const void *b)
{
    const struct busy *x = a, *y = b;
    return (x->from > y->from) - (x->from < y->from);
}

/* ms in which a call waited for a lane or ran; 0 when there is no memory to say it. */
static double lanes_ms(const struct attempt *a)
{
    double ms = 0, end = 0;
    struct busy *list = malloc(((size_t)a->count + 1) * sizeof(*list));
    for (int i = 0; list && i < a->count; i++)
        list[i] = busy_of(&a->list[i]);
    if (list)
        qsort(list, (size_t)a->count, sizeof(*list), by_start);
    for (int i = 0; list && i < a->count; i++) {
        double from = list[i].from > end ? list[i].from : end;
        ms += list[i].to > from ? list[i].to - from : 0;
        end = list[i].to > end ? list[i].to : end;
    }
    free(list);
    return ms;
}

enum outcome { DONE, FAILED, AGAIN };

/* What follows from the failure of an attempt.  A module or a device that is not known where the
 * table says so is a table that is older than the fleet, or newer: no fault of the client. */
static enum outcome judge(struct flight *f, const struct instance *x, bool *banned, struct err *e)
{
    const char *device = f->table->devices[x->device].name;
    bool stale = x->error.code == ERR_NOT_FOUND, gone = x->error.code == ERR_GONE;
    err_set(e, stale ? ERR_NO_PLACE : x->error.code, "%s on %s: %.300s", x->module->name, device,
            x->error.text);
    f->hope_ms = stale || gone ? ROUTE_NOTICE_MS : f->hope_ms;
    banned[x->to_blame] = banned[x->to_blame] || stale || gone;
    if (gone)
        *f->lost = *e;
    return stale || gone || x->error.code == ERR_BUSY ? AGAIN : FAILED;
}

static enum outcome fly(struct flight *f, uint32_t number, bool *banned, json_t **ret,
                        struct err *e)
{
    struct attempt a = {.flight = f, .number = number, .cancel = cancel_new()};
    enum outcome outcome = FAILED;
    if (!a.cancel) {
        err_set(e, ERR_MEMORY, "gateway: no memory");
        return FAILED;
    }
    if (make_list(&a, e) && place(&a, banned, e)) {
        run_all(&a);
        const struct instance *x = cause(&a);
        if (x)
            outcome = judge(f, x, banned, e);
        else
            outcome = make_answer(&a, ret, e) ? DONE : FAILED;
        if (outcome == DONE)
            f->modelled_ms = lanes_ms(&a) + transfers_ms(&a);
    } else if (a.unplaced) {
        f->hope_ms = route_hope_ms(f->gateway, f->table, a.unplaced);
    }
    clear_attempt(&a);
    return outcome;
}

/* Between attempts at devices that are busy: a moment, or until there is a newer table. */
static void pause_for_table(struct flight *f)
{
    int64_t end = clock_deadline_ms(RETRY_PAUSE_MS);
    struct table *t = table_slot_wait(f->gateway->options.slot, f->table->version,
                                      end < f->deadline_ns ? end : f->deadline_ns);
    table_unref(t);
}

bool flight_run(struct flight *f, json_t **ret, struct err *e)
{
    bool *banned = calloc(f->table->device_count + 1u, sizeof(*banned));
    if (!banned)
        return err_set(e, ERR_MEMORY, "gateway: no memory");
    enum outcome outcome = AGAIN;
    for (uint32_t n = 1; outcome == AGAIN && n <= ATTEMPTS_MAX; n++) {
        if (n > 1) {
            atomic_fetch_add(&f->gateway->counters.repeats, 1);
            if (e->code == ERR_BUSY)
                pause_for_table(f);
        }
        if (cancel_fired(f->cancel) || clock_now_ns() >= f->deadline_ns) {
            if (n == 1)
                err_set(e, cancel_fired(f->cancel) ? ERR_CANCELLED : ERR_TIMEOUT,
                        "request: its time is over before a device was asked");
            break;
        }
        outcome = fly(f, ++*f->attempt, banned, ret, e);
    }
    free(banned);
    return outcome == DONE;
}
