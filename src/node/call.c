/* call.c - a call from a gateway: gather inputs, run or take from the cache, deliver, answer.
 *
 * Order: media are keyed before they are decoded, so that a cached result costs neither decoding
 * nor a run; inputs that others deliver are waited for first, since their bytes are in the key. */
#include "node/internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "task/generate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define WORKS_KEPT 32

/* A call under way; big, so it is not on the stack. */
struct work {
    struct work *next; /* among those kept for the next call */
    struct node *node;
    struct net_request *request;
    struct cancel *cancel;
    int64_t deadline_ns;
    struct call call;
    struct held_module *module;
    struct named_tensor inputs[WIRE_INPUTS_MAX]; /* what the module gets, owned */
    int input_count;
    struct result result;
    struct call_answer answer;
    const char
        *unreached; /* id of the device that a delivery did not reach; in call, NULL = none */
};

/* ---- inputs --------------------------------------------------------------------------------- */

static bool add_input(struct work *w, const char *name, const struct tensor *t, struct err *e)
{
    if (w->input_count >= WIRE_INPUTS_MAX)
        return err_set(e, ERR_TOO_LARGE, "call '%s': more than %d inputs", w->call.key.call,
                       WIRE_INPUTS_MAX);
    struct named_tensor *in = &w->inputs[w->input_count++];
    (void)snprintf(in->name, sizeof(in->name), "%s", name);
    in->tensor = tensor_ref(t);
    return true;
}

/* Waits for what other devices deliver; then those inputs are tensors like the others. */
static bool wait_meeting(struct work *w, struct err *e)
{
    const char *ports[WIRE_INPUTS_MAX];
    struct tensor came[WIRE_INPUTS_MAX];
    int count = 0;
    for (int i = 0; i < w->call.input_count; i++)
        if (w->call.inputs[i].source == CALL_MEETING)
            ports[count++] = w->call.inputs[i].port;
    if (count == 0)
        return true;
    int64_t start = clock_now_ns();
    if (!meeting_wait(w->node->meetings, &w->call.key, w->call.reserve, ports, count,
                      w->deadline_ns, w->cancel, came, e))
        return false;
    w->answer.times.wait_ms = clock_ms_since(start);
    bool ok = true;
    for (int i = 0; i < count; i++) {
        ok = ok && add_input(w, ports[i], &came[i], e);
        tensor_clear(&came[i]);
    }
    return ok;
}

/* The decode loop takes what it knows by name, whether or not its module has a port for it. */
static void match_ports(struct work *w, const int *first, int first_count)
{
    int count;
    const struct port *ports = exec_inputs(w->module->module, &count);
    if (!w->call.generate)
        w->input_count = prepare_match(ports, count, first, first_count, w->inputs, w->input_count);
}

static bool prepare_media(struct work *w, struct err *e)
{
    int64_t start = clock_now_ns();
    int first[WIRE_INPUTS_MAX], first_count = 0;
    for (int i = 0; i < w->call.input_count; i++) {
        const struct call_input *in = &w->call.inputs[i];
        if (in->source == CALL_TENSOR && !add_input(w, in->port, &in->tensor, e))
            return false;
        if (in->source != CALL_MEDIA)
            continue;
        int made = 0, room = WIRE_INPUTS_MAX - w->input_count;
        if (!prepare_run(w->node->prepare, in->kind, in->config.hex, mem_data(in->media),
                         mem_size(in->media), &w->inputs[w->input_count], room, &made, e))
            return false;
        if (made > 0)
            first[first_count++] = w->input_count;
        w->input_count += made;
    }
    match_ports(w, first, first_count);
    w->answer.times.prepare_ms = clock_ms_since(start);
    return true;
}

/* ---- the key of a result -------------------------------------------------------------------- */

static void key_text(struct digest_ctx *c, const char *text)
{
    digest_add(c, text, strlen(text) + 1);
}

static void key_tensor(struct digest_ctx *c, const char *name, const struct tensor *t)
{
    char shape[128];
    key_text(c, name);
    key_text(c, dtype_name(t->dtype));
    key_text(c, shape_text(&t->shape, shape, sizeof(shape)));
    digest_add(c, t->data, t->bytes);
}

/* Over everything that the result depends on, with lengths fixed by the terminators and shapes. */
static bool result_key(struct work *w, struct digest *ret, struct err *e)
{
    struct digest_ctx *c = digest_start();
    if (!c)
        return err_set(e, ERR_MEMORY, "node: no memory");
    key_text(c, w->call.module.hex);
    for (int i = 0; i < w->call.input_count; i++) {
        const struct call_input *in = &w->call.inputs[i];
        if (in->source == CALL_MEDIA) {
            uint64_t size = mem_size(in->media);
            key_text(c, in->kind);
            key_text(c, in->config.hex);
            digest_add(c, &size, sizeof(size));
            digest_add(c, mem_data(in->media), size);
        } else if (in->source == CALL_TENSOR) {
            key_tensor(c, in->port, &in->tensor);
        }
    }
    for (int i = 0; i < w->input_count; i++) /* so far only what was delivered */
        key_tensor(c, w->inputs[i].name, &w->inputs[i].tensor);
    *ret = digest_finish(c);
    return true;
}

/* ---- running -------------------------------------------------------------------------------- */

static bool compute(struct work *w, struct err *e)
{
    if (!prepare_media(w, e))
        return false;
    return node_run(w->node, w->module, w->inputs, w->input_count, w->deadline_ns, w->cancel,
                    &w->result, &w->answer.times, e);
}

static bool run_or_recall(struct work *w, struct err *e)
{
    struct digest key;
    if (w->call.fresh)
        return compute(w, e);
    if (!result_key(w, &key, e))
        return false;
    switch (cache_get(w->node->cache, &key, w->deadline_ns, w->cancel, &w->result, e)) {
    case CACHE_HIT:
        w->answer.times.cached = true;
        return true;
    case CACHE_ERROR:
        return false;
    case CACHE_COMPUTE:
        break;
    }
    if (!compute(w, e)) {
        cache_fail(w->node->cache, &key);
        return false;
    }
    cache_put(w->node->cache, &key, &w->result);
    return true;
}

/* ---- generation ----------------------------------------------------------------------------- */

static bool generate_step(void *ctx, const struct named_tensor *inputs, int count,
                          struct tensor *outputs, struct err *e)
{
    struct work *w = ctx;
    struct result r = {0};
    if (!node_run(w->node, w->module, inputs, count, w->deadline_ns, w->cancel, &r,
                  &w->answer.times, e))
        return false;
    for (int i = 0; i < r.count; i++)
        outputs[i] = r.outputs[i].tensor;
    return true;
}

static bool generate(struct work *w, struct err *e)
{
    if (!prepare_media(w, e))
        return false;
    int in_count, out_count;
    struct generate_job job = {
        .settings = w->call.generation,
        .inputs = w->inputs,
        .input_count = w->input_count,
        .module_inputs = exec_inputs(w->module->module, &in_count),
        .module_outputs = exec_outputs(w->module->module, &out_count),
        .cancel = w->cancel,
        .prepare = w->node->prepare,
        .step = generate_step,
        .ctx = w,
    };
    job.module_input_count = in_count;
    job.module_output_count = out_count;
    return generate_run(&job, &w->answer.text, &w->answer.tokens, e);
}

/* ---- outputs -------------------------------------------------------------------------------- */

static const struct tensor *output(const struct work *w, const char *name, struct err *e)
{
    for (int i = 0; i < w->result.count; i++)
        if (strcmp(w->result.outputs[i].name, name) == 0)
            return &w->result.outputs[i].tensor;
    err_set(e, ERR_NOT_FOUND, "module %.12s: has no output '%s'", w->call.module.hex, name);
    return NULL;
}

static bool send_delivery(struct node *n, const char *url, const struct delivery *d,
                          struct cancel *cancel, int64_t deadline_ns, struct err *e)
{
    struct frame_out out;
    struct net_answer answer;
    char address[WIRE_URL_MAX + 32];
    (void)snprintf(address, sizeof(address), "%s/s2m3/v1/deliver", url);
    bool ok = delivery_write(d, &out, e);
    struct net_part body[2] = {{out.head.data, out.head.size}, {d->tensor.data, d->tensor.bytes}};
    struct net_header type = {"Content-Type", FRAME_CONTENT_TYPE};
    struct net_call call = {.method = "POST",
                            .url = address,
                            .headers = &type,
                            .header_count = 1,
                            .parts = body,
                            .part_count = 2,
                            .deadline_ns = deadline_ns,
                            .max_response = 65536,
                            .cancel = cancel};
    ok = ok && net_call(n->client, &call, &answer, e);
    frame_out_clear(&out);
    if (!ok)
        return false;
    ok = net_answer_err(&answer, e);
    net_answer_clear(&answer);
    return ok;
}

static bool deliver_one(struct work *w, const struct call_target *to, const struct table *table,
                        struct err *e)
{
    const struct tensor *t = output(w, to->output, e);
    const struct table_device *device = table_find_device(table, to->device);
    if (!t)
        return false;
    if (!device)
        return err_set(e, ERR_NOT_FOUND, "device '%s': not in the routing table", to->device);
    struct delivery d = {.key = w->call.key,
                         .reserve = to->reserve,
                         .tensor = *t,
                         .deadline_ms = (uint64_t)clock_left_ms(w->deadline_ns, 600000)};
    memcpy(d.key.call, to->call, sizeof(d.key.call));
    memcpy(d.port, to->port, sizeof(d.port));
    if (strcmp(to->device, node_id(w->node)) == 0)
        return meeting_deliver(w->node->meetings, &d.key, d.port, t, d.reserve, w->deadline_ns, e);
    node_emulate_link(w->node, t->bytes);
    struct err why;
    if (send_delivery(w->node, device->peer_url, &d, w->cancel, w->deadline_ns, &why))
        return true;
    w->unreached = why.code == ERR_GONE ? to->device : NULL;
    *e = why;
    return err_prefix(e, "delivery to %s", device->name);
}

static bool deliver(struct work *w, struct err *e)
{
    if (w->call.target_count == 0)
        return true;
    int64_t start = clock_now_ns();
    struct table *table = table_slot_get(w->node->slot);
    bool ok = true;
    for (int i = 0; ok && i < w->call.target_count; i++)
        ok = deliver_one(w, &w->call.targets[i], table, e);
    table_unref(table);
    w->answer.times.deliver_ms = clock_ms_since(start);
    return ok;
}

static bool fill_returns(struct work *w, struct err *e)
{
    for (int i = 0; i < w->call.return_count; i++) {
        const struct tensor *t = output(w, w->call.returns[i], e);
        if (!t)
            return false;
        struct named_tensor *out = &w->answer.outputs[w->answer.output_count++];
        memcpy(out->name, w->call.returns[i], sizeof(out->name));
        out->tensor = tensor_ref(t);
    }
    return true;
}

/* The next heartbeat says it. */
static void watch_time(struct work *w)
{
    struct held_module *m = w->module;
    uint32_t runs = w->call.generate && w->answer.tokens > 1 ? w->answer.tokens : 1;
    monitor_lock(&w->node->lock);
    bool lower = times_add(&m->times, w->answer.times.run_ms / runs, &m->report.run_ms);
    double run_ms = m->report.run_ms;
    monitor_unlock(&w->node->lock);
    if (!lower)
        return;
    log_debug("node", "%.12s: a run takes %.3f ms", w->call.module.hex, run_ms);
    node_keep_run_ms(w->node, w->call.module.hex, run_ms);
}

static bool do_call(struct work *w, struct err *e)
{
    w->deadline_ns = clock_deadline_ms((int64_t)w->call.deadline_ms);
    w->answer.times.emulated = node_emulated(w->node);
    if (!wait_meeting(w, e))
        return false;
    w->module = node_take_module(w->node, w->call.module.hex, w->deadline_ns, w->cancel, e);
    if (!w->module)
        return false;
    bool ok = w->call.generate ? generate(w, e) : run_or_recall(w, e);
    if (ok && !w->answer.times.cached)
        watch_time(w);
    node_give_module(w->node, w->module);
    return ok && (w->call.generate || (deliver(w, e) && fill_returns(w, e)));
}

/* ---- HTTP ----------------------------------------------------------------------------------- */

struct mem *node_body(struct net_request *r, struct err *e)
{
    struct net_body body;
    net_request_take_body(r, &body);
    struct mem *m = mem_wrap((void *)(uintptr_t)body.data, body.size, body.release, body.arg);
    if (!m) {
        body.release(body.arg);
        err_set(e, ERR_MEMORY, "node: no memory");
    }
    return m;
}

/* What a reply borrows until it is sent. */
struct reply_hold {
    struct frame_out out;
    struct mem *mems[WIRE_PARTS_MAX];
    int count;
};

static void release_reply(void *arg)
{
    struct reply_hold *h = arg;
    for (int i = 0; i < h->count; i++)
        mem_unref(h->mems[i]);
    frame_out_clear(&h->out);
    free(h);
}

/* Sends the answer; its outputs are the parts, each held until it is sent. */
static void reply_answer(struct work *w, struct err *e)
{
    struct reply_hold *hold = calloc(1, sizeof(*hold));
    if (!hold || !call_answer_write(&w->answer, &hold->out, e)) {
        if (hold)
            release_reply(hold);
        else
            err_set(e, ERR_MEMORY, "node: no memory");
        net_reply_err(w->request, e);
        return;
    }
    struct net_part body[WIRE_PARTS_MAX + 1] = {{hold->out.head.data, hold->out.head.size}};
    size_t bytes = 0;
    for (int i = 0; i < hold->out.part_count; i++) {
        const struct frame_part *p = &hold->out.parts[i];
        body[i + 1] = (struct net_part){p->data, p->size};
        hold->mems[hold->count++] = mem_ref(w->answer.outputs[i].tensor.mem);
        bytes += p->size;
    }
    node_emulate_link(w->node, bytes);
    net_reply_parts(w->request, 200, FRAME_CONTENT_TYPE, body, (size_t)hold->count + 1,
                    release_reply, hold);
}

/* Mapped, not from the heap: most of its 100 KB are rows that no call fills, and stay untouched. */
static struct work *new_work(void)
{
    void *w =
        mmap(NULL, sizeof(struct work), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return w == MAP_FAILED ? NULL : w;
}

static void free_work(struct work *w)
{
    (void)munmap(w, sizeof(*w));
}

/* Some are kept: mapping and giving back per call cost more than the rest of a small one. */
static struct work *take_work(struct node *n)
{
    monitor_lock(&n->lock);
    struct work *w = n->works;
    if (w) {
        n->works = w->next;
        n->work_count--;
    }
    monitor_unlock(&n->lock);
    return w ? w : new_work();
}

static void give_work(struct node *n, struct work *w)
{
    call_clear(&w->call);
    call_answer_clear(&w->answer);
    result_clear(&w->result);
    for (int i = 0; i < w->input_count; i++)
        tensor_clear(&w->inputs[i].tensor);
    w->input_count = 0;
    w->module = NULL;
    w->unreached = NULL;
    w->answer.times = (struct call_times){0};
    w->answer.tokens = 0;
    monitor_lock(&n->lock);
    bool keep = n->work_count < WORKS_KEPT;
    if (keep) {
        w->next = n->works;
        n->works = w;
        n->work_count++;
    }
    monitor_unlock(&n->lock);
    if (!keep)
        free_work(w);
}

void node_free_works(struct node *n)
{
    monitor_lock(&n->lock);
    struct work *kept = n->works;
    n->works = NULL;
    n->work_count = 0;
    monitor_unlock(&n->lock);
    for (struct work *w; (w = kept);) {
        kept = w->next;
        free_work(w);
    }
}

/* Says also whose fault it is, when it is not this device's: the gateway goes round that one. */
static void reply_error(const struct work *w, const struct err *e)
{
    if (w->unreached)
        net_reply_header(w->request, CALL_UNREACHED_HEADER, w->unreached);
    net_reply_err(w->request, e);
}

void node_handle_call(struct net_request *r, void *node)
{
    struct err e = {0};
    struct mem *body = node_body(r, &e);
    struct work *w = body ? take_work(node) : NULL;
    if (!w || !call_read(body, &w->call, &e)) {
        if (body && !w)
            err_set(&e, ERR_MEMORY, "node: no memory");
        mem_unref(body);
        if (w)
            give_work(node, w);
        net_reply_err(r, &e);
        return;
    }
    w->node = node;
    w->request = r;
    w->cancel = net_request_cancel(r);
    node_emulate_link(w->node, mem_size(body));
    mem_unref(body); /* the inputs hold what they need of it */
    bool ok = do_call(w, &e);
    if (ok)
        reply_answer(w, &e);
    else
        reply_error(w, &e);
    give_work(node, w);
}

void node_handle_deliver(struct net_request *r, void *node)
{
    struct node *n = node;
    struct err e = {0};
    struct delivery d;
    struct mem *body = node_body(r, &e);
    if (!body || !delivery_read(body, &d, &e)) {
        mem_unref(body);
        net_reply_err(r, &e);
        return;
    }
    node_emulate_link(n, mem_size(body));
    mem_unref(body);
    bool ok = meeting_deliver(n->meetings, &d.key, d.port, &d.tensor, d.reserve,
                              clock_deadline_ms((int64_t)d.deadline_ms), &e);
    delivery_clear(&d);
    if (ok)
        net_reply_json(r, 200, json_object());
    else
        net_reply_err(r, &e);
}
