/* oip.c - Open Inference Protocol for the modules of a device. */
#include "wire/oip.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/parse.h"
#include "node/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INFER_MS 60000

/* {model} is a module's digest or its name in the routing table. */
static bool find_digest(struct node *n, const char *name, struct digest *ret, struct err *e)
{
    struct table *t = table_slot_get(n->slot);
    bool found = false;
    for (uint32_t i = 0; t && i < t->module_count && !found; i++) {
        const struct table_module *m = &t->modules[i];
        found = strcmp(m->digest.hex, name) == 0 ||
                (strcmp(m->name, name) == 0 && table_holds(t, node_id(n), m));
        if (found)
            *ret = m->digest;
    }
    table_unref(t);
    return found ||
           err_set(e, ERR_NOT_FOUND, "module '%.80s': this device holds none of that name", name);
}

static struct held_module *take(struct net_request *r, struct node *n, struct err *e)
{
    struct digest d;
    if (!find_digest(n, net_request_param(r, "model"), &d, e))
        return NULL;
    return node_take_module(n, d.hex, net_request_deadline(r), net_request_cancel(r), e);
}

void node_handle_v2(struct net_request *r, void *node)
{
    (void)node;
    net_reply_json(r, 200,
                   json_pack("{s:s,s:s,s:[s]}", "name", "s2m3", "version", S2M3_VERSION,
                             "extensions", "binary_tensor_data"));
}

void node_handle_v2_live(struct net_request *r, void *node)
{
    (void)node;
    net_reply(r, 200, "application/json", "{}", 2);
}

void node_handle_v2_model(struct net_request *r, void *node)
{
    struct node *n = node;
    struct err e;
    struct held_module *m = take(r, n, &e);
    if (!m) {
        net_reply_err(r, &e);
        return;
    }
    int in_count, out_count;
    const struct port *in = exec_inputs(m->module, &in_count),
                      *out = exec_outputs(m->module, &out_count);
    json_t *o = oip_metadata(net_request_param(r, "model"), in, in_count, out, out_count);
    node_give_module(n, m);
    net_reply_json(r, 200, o);
}

void node_handle_v2_model_ready(struct net_request *r, void *node)
{
    struct node *n = node;
    struct err e;
    struct digest d = {{0}};
    bool ready = false;
    if (find_digest(n, net_request_param(r, "model"), &d, &e)) {
        struct held_module *m = node_take_module(n, d.hex, clock_now_ns(), NULL, &e);
        ready = m != NULL;
        if (m)
            node_give_module(n, m);
    }
    if (ready)
        net_reply(r, 200, "application/json", "{}", 2);
    else
        net_reply_err(r, &e);
}

static void reply_outputs(struct net_request *r, const struct oip_request *request,
                          const struct result *result)
{
    struct err e;
    json_t *header;
    struct frame_part parts[WIRE_PARTS_MAX];
    int count;
    if (!oip_answer_write(net_request_param(r, "model"), request, result->outputs, result->count,
                          &header, parts, &count, &e)) {
        net_reply_err(r, &e);
        return;
    }
    char *text = json_text(header), length[32];
    json_decref(header);
    struct buf body = BUF_INIT(WIRE_BODY_MAX);
    buf_str(&body, text ? text : "");
    (void)snprintf(length, sizeof(length), "%zu", body.size);
    for (int i = 0; i < count; i++)
        buf_add(&body, parts[i].data, parts[i].size);
    free(text);
    if (!buf_ok(&body, "answer", &e)) {
        net_reply_err(r, &e);
    } else {
        if (count)
            net_reply_header(r, OIP_LENGTH_HEADER, length);
        net_reply(r, 200, count ? "application/octet-stream" : "application/json", body.data,
                  body.size);
    }
    buf_clear(&body);
}

static bool infer(struct node *n, struct net_request *r, struct oip_request *request,
                  struct result *result, struct err *e)
{
    size_t json_size;
    (void)net_request_body(r, &json_size);
    const char *length = net_request_header(r, OIP_LENGTH_HEADER);
    uint64_t given;
    if (length && !parse_u64(OIP_LENGTH_HEADER, length, 0, json_size, &given, e))
        return false;
    json_size = length ? (size_t)given : json_size;
    struct mem *body = node_body(r, e);
    if (!body)
        return false;
    node_emulate_link(n, mem_size(body));
    bool ok = oip_request_read(body, json_size, request, e);
    mem_unref(body);
    struct held_module *m = ok ? take(r, n, e) : NULL;
    if (!m)
        return false;
    struct call_times times = {0};
    int64_t deadline = clock_deadline_ms(INFER_MS);
    ok = node_run(n, m, request->inputs, request->input_count, deadline, net_request_cancel(r),
                  result, &times, e);
    node_give_module(n, m);
    return ok;
}

void node_handle_v2_infer(struct net_request *r, void *node)
{
    struct err e;
    struct oip_request *request = calloc(1, sizeof(*request));
    struct result *result = calloc(1, sizeof(*result));
    if (!request || !result)
        net_reply_err(r, &(struct err){.code = ERR_MEMORY, .text = "node: no memory"});
    else if (!infer(node, r, request, result, &e))
        net_reply_err(r, &e);
    else
        reply_outputs(r, request, result);
    if (request)
        oip_request_clear(request);
    if (result)
        result_clear(result);
    free(request);
    free(result);
}
