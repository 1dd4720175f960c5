/* read.c - ModelProto, GraphProto, FunctionProto and NodeProto to the arrays of graph.h.
 *
 * A graph is walked three times: counts, then what can be named from anywhere in it (inputs and
 * initialisers), then its nodes in order (order.c).  A node may only use what is defined before it,
 * so a graph that is read has no cycle.  Recursion goes only into sub-graphs, at most ONNX_DEPTH_MAX.
 *
 * Unresolved: sparse initialisers are refused; a list of graphs in one attribute may hold one. */
#include "onnx/reader.h"

#include "base/num.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { MP_IR = 1, MP_GRAPH = 7, MP_OPSET = 8, MP_FUNCTION = 25 };
enum { GP_NODE = 1, GP_INIT = 5, GP_INPUT = 11, GP_OUTPUT = 12, GP_INFO = 13, GP_SPARSE = 15 };
enum {
    NP_INPUT = 1,
    NP_OUTPUT = 2,
    NP_NAME = 3,
    NP_OP = 4,
    NP_ATTR = 5,
    NP_DOMAIN = 7,
    NP_OVERLOAD = 8
};
enum {
    FP_NAME = 1,
    FP_INPUT = 4,
    FP_OUTPUT = 5,
    FP_NODE = 7,
    FP_OPSET = 9,
    FP_DOMAIN = 10,
    FP_OVERLOAD = 13
};

static const char *shown_node(const struct gnode *n, char buf[2 * SPAN_TEXT_SIZE])
{
    char op[SPAN_TEXT_SIZE], name[SPAN_TEXT_SIZE];
    span_text(n->op, op);
    span_text(n->name, name);
    size_t a = strlen(op), b = strlen(name);
    memcpy(buf, op, a);
    buf[a] = ' ';
    memcpy(buf + a + 1, name, b + 1);
    return buf;
}

static bool bad_node(struct reader *r, uint32_t node, const char *what)
{
    char shown[2 * SPAN_TEXT_SIZE];
    return err_set(r->e, ERR_INVALID, "node '%s': %s", shown_node(&r->m->nodes.items[node], shown),
                   what);
}

static bool known_domain(struct span d)
{
    return d.size == 0 || span_is(d, "ai.onnx") || span_is(d, "com.microsoft") ||
           (d.size > 8 && memcmp(d.data, "ai.onnx.", 8) == 0);
}

static bool same_domain(struct span a, struct span b)
{
    if (span_is(a, "ai.onnx"))
        a.size = 0;
    if (span_is(b, "ai.onnx"))
        b.size = 0;
    return span_equal(a, b);
}

static int version_of(const struct onnx *m, uint32_t first, uint32_t count, struct span domain)
{
    for (uint32_t i = 0; i < count; i++)
        if (same_domain(m->opsets.items[first + i].domain, domain))
            return m->opsets.items[first + i].version;
    return 0;
}

static uint32_t find_function(const struct onnx *m, const struct gnode *n)
{
    for (uint32_t i = 0; i < m->functions_count; i++) {
        const struct ggraph *g = &m->graphs.items[m->functions_first + i];
        if (span_equal(g->name, n->op) && same_domain(g->domain, n->domain) &&
            span_equal(g->overload, n->overload))
            return m->functions_first + i;
    }
    return ONNX_NONE;
}

/* The function whose body a graph stands in, or ONNX_NONE. */
static uint32_t body_of(const struct onnx *m, uint32_t graph)
{
    while (graph != ONNX_NONE && !m->graphs.items[graph].function)
        graph = m->graphs.items[graph].parent;
    return graph;
}

/* Says which operator a node is: of a known domain, or a function of this model. */
static bool settle_operator(struct reader *r, uint32_t node)
{
    struct onnx *m = r->m;
    struct gnode *n = &m->nodes.items[node];
    char shown[SPAN_TEXT_SIZE];
    if (n->op.size == 0 || n->op.size > ONNX_NAME_MAX)
        return bad_node(r, node, "has no operator or one with a name over the limit");
    n->function = find_function(m, n);
    uint32_t body = body_of(m, n->graph);
    n->version = body == ONNX_NONE ? version_of(m, 0, m->model_opsets, n->domain)
                                   : version_of(m, m->graphs.items[body].opset_first,
                                                m->graphs.items[body].opset_count, n->domain);
    if (n->function != ONNX_NONE)
        return true;
    if (!known_domain(n->domain))
        return err_set(r->e, ERR_UNSUPPORTED, "operator domain '%s' is not known",
                       span_text(n->domain, shown));
    if (n->version == 0 && !span_is(n->domain, "com.microsoft"))
        return err_set(r->e, ERR_INVALID, "operator domain '%s' is used, but not imported",
                       span_text(n->domain, shown));
    if (n->version == 0)
        n->version = 1;
    return true;
}

static bool add_ref(struct reader *r, uint32_t id)
{
    if (!POOL_ADD(r->m->refs, 1, 2u * ONNX_EDGES_MAX, "edges", r->e))
        return false;
    r->m->refs.items[r->m->refs.count - 1] = id;
    return true;
}

static bool use_value(struct reader *r, uint32_t graph, struct span name, const char *who)
{
    char shown[SPAN_TEXT_SIZE];
    if (name.size == 0)
        return add_ref(r, ONNX_NONE);
    uint32_t id = onnx_lookup(r->m, graph, name);
    if (id == ONNX_NONE)
        return err_set(r->e, ERR_INVALID,
                       "%s uses '%s', which is not defined before it (missing, or a cycle)", who,
                       span_text(name, shown));
    if (r->top != ONNX_NONE && graph != ONNX_MAIN && r->m->values.items[id].graph == ONNX_MAIN) {
        if (!POOL_ADD(r->captures, 1, ONNX_EDGES_MAX, "outer values used by sub-graphs", r->e))
            return false;
        r->captures.items[r->captures.count - 1] = id;
    }
    return add_ref(r, id);
}

static bool node_field(struct reader *r, uint32_t node, struct pb *p, const struct pb_field *f)
{
    struct gnode *n = &r->m->nodes.items[node];
    struct span *to = f->number == NP_NAME     ? &n->name
                      : f->number == NP_OP     ? &n->op
                      : f->number == NP_DOMAIN ? &n->domain
                                               : &n->overload;
    if (f->number == NP_INPUT || f->number == NP_OUTPUT || f->number == NP_ATTR) {
        if (f->wire != PB_BYTES)
            return bad_node(r, node, "broken input, output or attribute");
        n->in_count += f->number == NP_INPUT;
        n->out_count += f->number == NP_OUTPUT;
        n->attr_count += f->number == NP_ATTR;
        return true;
    }
    if (f->number != NP_NAME && f->number != NP_OP && f->number != NP_DOMAIN &&
        f->number != NP_OVERLOAD)
        return true;
    if (f->wire != PB_BYTES || !pb_once(p, f))
        return bad_node(r, node, "broken name, operator or domain");
    *to = f->bytes;
    return true;
}

static bool node_edges(struct reader *r, uint32_t node, uint32_t number)
{
    char shown[2 * SPAN_TEXT_SIZE], who[2 * SPAN_TEXT_SIZE + 8] = "node '";
    struct pb p = pb_over(r->m->nodes.items[node].message);
    struct pb_field f;
    const struct gnode *n = &r->m->nodes.items[node];
    uint32_t slot = 0, graph = n->graph, before = r->m->refs.count;
    uint32_t count = number == NP_INPUT ? n->in_count : n->out_count;
    shown_node(&r->m->nodes.items[node], shown);
    memcpy(who + 6, shown, strlen(shown) + 1);
    memcpy(who + strlen(who), "'", 2);
    while (pb_next(&p, &f) == PB_FIELD) {
        if (f.number != number)
            continue;
        if (number == NP_INPUT) {
            if (!use_value(r, graph, f.bytes, who))
                return false;
            continue;
        }
        uint32_t id = ONNX_NONE;
        struct gvalue v = {
            .name = f.bytes, .kind = VALUE_NODE, .graph = graph, .node = node, .slot = slot++};
        if (f.bytes.size && !onnx_define(r->m, v, &id, r->e))
            return err_prefix(r->e, "%s", who);
        if (!add_ref(r, id))
            return false;
    }
    return count == r->m->refs.count - before || bad_node(r, node, "changes while it is read");
}

static bool node_attrs(struct reader *r, uint32_t node)
{
    char shown[2 * SPAN_TEXT_SIZE];
    uint32_t count = r->m->nodes.items[node].attr_count;
    if (!POOL_ADD(r->m->attrs, count, ONNX_ATTRS_MAX, "attributes", r->e))
        return false;
    uint32_t at = r->m->attrs.count - count, end = r->m->attrs.count;
    r->m->nodes.items[node].attr_first = at;
    struct pb p = pb_over(r->m->nodes.items[node].message);
    struct pb_field f;
    while (at < end && pb_next(&p, &f) == PB_FIELD) {
        if (f.number != NP_ATTR)
            continue;
        if (!read_attr(r, node, f.bytes, at))
            return err_prefix(r->e, "node '%s'", shown_node(&r->m->nodes.items[node], shown));
        uint32_t first = r->m->nodes.items[node].attr_first;
        for (uint32_t i = first; i < at; i++)
            if (span_equal(r->m->attrs.items[i].name, r->m->attrs.items[at].name))
                return bad_node(r, node, "has an attribute twice");
        at++;
    }
    return true;
}

static int by_id(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static bool store_captures(struct reader *r, uint32_t node)
{
    r->m->nodes.items[node].capture_first = r->m->refs.count;
    if (r->captures.count)
        qsort(r->captures.items, r->captures.count, sizeof(uint32_t), by_id);
    for (uint32_t i = 0; i < r->captures.count; i++)
        if ((i == 0 || r->captures.items[i] != r->captures.items[i - 1]) &&
            !add_ref(r, r->captures.items[i]))
            return false;
    struct gnode *n = &r->m->nodes.items[node];
    n->capture_count = r->m->refs.count - n->capture_first;
    return true;
}

/* Both branches of an If give what the node gives. */
static bool check_branches(struct reader *r, uint32_t node)
{
    const struct gnode *n = &r->m->nodes.items[node];
    for (uint32_t i = 0; onnx_is_op(n, "If") && i < n->attr_count; i++) {
        const struct gattr *a = &r->m->attrs.items[n->attr_first + i];
        if (a->type == AT_GRAPH && a->count &&
            r->m->graphs.items[a->first].out_count != n->out_count)
            return bad_node(r, node, "a branch has another number of outputs than the node");
    }
    return true;
}

static bool read_node(struct reader *r, uint32_t node)
{
    struct onnx *m = r->m;
    struct pb p = pb_over(m->nodes.items[node].message);
    struct pb_field f;
    enum pb_result got;
    while ((got = pb_next(&p, &f)) == PB_FIELD)
        if (!node_field(r, node, &p, &f))
            return false;
    if (got == PB_BAD)
        return bad_node(r, node, "cut short or broken");
    if (m->nodes.items[node].attr_count > ONNX_NODE_ATTRS_MAX)
        return bad_node(r, node, "more attributes than the limit of 1000");
    m->nodes.items[node].in_first = m->refs.count;
    if (!settle_operator(r, node) || !node_edges(r, node, NP_INPUT))
        return false;
    bool main_node = m->nodes.items[node].graph == ONNX_MAIN;
    if (main_node) {
        r->top = node;
        r->captures.count = 0;
    }
    bool ok =
        node_attrs(r, node) && check_branches(r, node) && (!main_node || store_captures(r, node));
    if (main_node)
        r->top = ONNX_NONE;
    if (!ok)
        return false;
    m->nodes.items[node].out_first = m->refs.count;
    if (!node_edges(r, node, NP_OUTPUT))
        return false;
    uint32_t tensor;
    if (!read_constant_node(r, &m->nodes.items[node], &tensor))
        return false;
    if (tensor != ONNX_NONE && m->refs.items[m->nodes.items[node].out_first] != ONNX_NONE) {
        struct gvalue *v = &m->values.items[m->refs.items[m->nodes.items[node].out_first]];
        v->kind = VALUE_CONST;
        v->index = tensor;
    }
    return true;
}

/* All nodes of a graph or function body, whose fields have the number given. */
static bool read_nodes(struct reader *r, uint32_t graph, uint32_t number)
{
    struct onnx *m = r->m;
    struct span message = m->graphs.items[graph].message;
    uint64_t count = 0;
    struct pb p = pb_over(message);
    struct pb_field f;
    while (pb_next(&p, &f) == PB_FIELD)
        count += f.number == number && f.wire == PB_BYTES;
    if (!POOL_ADD(m->nodes, count, ONNX_NODES_MAX, "nodes", r->e))
        return false;
    uint32_t at = m->nodes.count - (uint32_t)count, i = 0;
    m->graphs.items[graph].node_first = at;
    m->graphs.items[graph].node_count = (uint32_t)count;
    struct span *messages = calloc((size_t)count + 1, sizeof(*messages));
    if (!messages)
        return err_set(r->e, ERR_MEMORY, "nodes: no memory");
    p = pb_over(message);
    while (i < count && pb_next(&p, &f) == PB_FIELD)
        if (f.number == number && f.wire == PB_BYTES)
            messages[i++] = f.bytes;
    bool ok = order_nodes(messages, (uint32_t)count, r->e);
    for (i = 0; ok && i < count; i++, at++) {
        m->nodes.items[at].message = messages[i];
        m->nodes.items[at].graph = graph;
        m->nodes.items[at].function = ONNX_NONE;
        ok = read_node(r, at);
    }
    free(messages);
    return ok;
}

static bool value_info(struct reader *r, struct span message, struct span *name, struct span *type)
{
    struct pb p = pb_over(message);
    struct pb_field f;
    enum pb_result got;
    *name = *type = (struct span){0};
    while ((got = pb_next(&p, &f)) == PB_FIELD) {
        if (f.number != 1 && f.number != 2)
            continue;
        if (f.wire != PB_BYTES || !pb_once(&p, &f))
            return err_set(r->e, ERR_INVALID, "a value's name or type is broken");
        *(f.number == 1 ? name : type) = f.bytes;
    }
    return got == PB_END || err_set(r->e, ERR_INVALID, "a value's type is cut short or broken");
}

static bool read_initialisers(struct reader *r, uint32_t graph)
{
    struct onnx *m = r->m;
    struct pb p = pb_over(m->graphs.items[graph].message);
    struct pb_field f;
    m->graphs.items[graph].init_first = m->refs.count;
    while (pb_next(&p, &f) == PB_FIELD) {
        if (f.number == GP_SPARSE)
            return err_set(r->e, ERR_UNSUPPORTED, "sparse initialisers are not supported");
        if (f.number != GP_INIT)
            continue;
        if (f.wire != PB_BYTES)
            return err_set(r->e, ERR_INVALID, "an initialiser is broken");
        if (!POOL_ADD(m->tensors, 1, ONNX_VALUES_MAX, "constants", r->e))
            return false;
        uint32_t at = m->tensors.count - 1, id;
        if (!read_tensor(r, f.bytes, at))
            return false;
        struct gvalue v = {.name = m->tensors.items[at].name,
                           .kind = VALUE_CONST,
                           .graph = graph,
                           .index = at,
                           .node = ONNX_NONE};
        if (v.name.size == 0)
            return err_set(r->e, ERR_INVALID, "an initialiser has no name");
        if (!onnx_define(m, v, &id, r->e) || !add_ref(r, id))
            return false;
        m->graphs.items[graph].init_count++;
    }
    return true;
}

static bool read_inputs(struct reader *r, uint32_t graph)
{
    struct onnx *m = r->m;
    char shown[SPAN_TEXT_SIZE];
    struct pb p = pb_over(m->graphs.items[graph].message);
    struct pb_field f;
    uint32_t number = 0;
    m->graphs.items[graph].in_first = m->refs.count;
    while (pb_next(&p, &f) == PB_FIELD) {
        if (f.number != GP_INPUT)
            continue;
        struct gvalue v = {.kind = VALUE_INPUT, .graph = graph, .node = ONNX_NONE};
        if (f.wire != PB_BYTES)
            return err_set(r->e, ERR_INVALID, "an input is broken");
        if (!value_info(r, f.bytes, &v.name, &v.type))
            return false;
        uint32_t id = onnx_lookup(m, graph, v.name);
        if (id != ONNX_NONE && m->values.items[id].graph == graph) {
            struct gvalue *had = &m->values.items[id];
            if (had->kind != VALUE_CONST || had->type.size)
                return err_set(r->e, ERR_INVALID, "input '%s': defined twice",
                               span_text(v.name, shown));
            had->type = v.type;     /* an initialiser listed as input as well: its default */
            if (m->ir_version >= 4) /* before, all initialisers had to be */
                m->tensors.items[had->index].is_input = graph == ONNX_MAIN;
            continue;
        }
        if (v.name.size == 0)
            return err_set(r->e, ERR_INVALID, "an input has no name");
        v.index = number++;
        if (!onnx_define(m, v, &id, r->e) || !add_ref(r, id))
            return false;
        m->graphs.items[graph].in_count++;
    }
    return true;
}

static bool read_outputs(struct reader *r, uint32_t graph)
{
    struct onnx *m = r->m;
    struct pb p = pb_over(m->graphs.items[graph].message);
    struct pb_field f;
    m->graphs.items[graph].out_first = m->refs.count;
    while (pb_next(&p, &f) == PB_FIELD) {
        if (f.number != GP_OUTPUT && f.number != GP_INFO)
            continue;
        struct span name, type;
        if (f.wire != PB_BYTES || !value_info(r, f.bytes, &name, &type))
            return err_set(r->e, ERR_INVALID, "an output or a value's type is broken");
        uint32_t id = onnx_lookup(m, graph, name);
        if (id != ONNX_NONE && m->values.items[id].graph == graph && !m->values.items[id].type.size)
            m->values.items[id].type = type;
        if (f.number == GP_INFO)
            continue;
        if (name.size == 0)
            return err_set(r->e, ERR_INVALID, "an output has no name");
        if (!use_value(r, graph, name, "the graph's outputs"))
            return false;
        m->graphs.items[graph].out_count++;
    }
    return true;
}

bool read_graph(struct reader *r, struct span message, uint32_t parent, uint32_t *ret)
{
    struct onnx *m = r->m;
    uint32_t depth = parent == ONNX_NONE ? 0 : m->graphs.items[parent].depth + 1;
    if (depth > ONNX_DEPTH_MAX)
        return err_set(r->e, ERR_TOO_LARGE, "sub-graphs are nested deeper than %d", ONNX_DEPTH_MAX);
    uint32_t graph = ONNX_MAIN;
    if (parent != ONNX_NONE) {
        if (!POOL_ADD(m->graphs, 1, ONNX_GRAPHS_MAX, "graphs", r->e))
            return false;
        graph = m->graphs.count - 1;
    }
    m->graphs.items[graph] = (struct ggraph){.message = message, .parent = parent, .depth = depth};
    struct pb p = pb_over(message);
    struct pb_field f;
    enum pb_result got;
    while ((got = pb_next(&p, &f)) == PB_FIELD)
        if (f.number == GP_NODE && f.wire != PB_BYTES)
            return err_set(r->e, ERR_INVALID, "a node is broken");
    if (got == PB_BAD)
        return err_set(r->e, ERR_INVALID, "the graph is cut short or broken");
    *ret = graph;
    return read_initialisers(r, graph) && read_inputs(r, graph) && read_nodes(r, graph, GP_NODE) &&
           read_outputs(r, graph);
}

static bool read_opset(struct reader *r, struct span message)
{
    struct pb p = pb_over(message);
    struct pb_field f;
    struct gopset o = {0};
    enum pb_result got;
    while ((got = pb_next(&p, &f)) == PB_FIELD)
        if (f.number == 1 && f.wire == PB_BYTES)
            o.domain = f.bytes;
        else if (f.number == 2 && f.wire == PB_VARINT && f.value <= ONNX_OPSET_MAX)
            o.version = (int)f.value;
    if (got == PB_BAD || o.version < 1)
        return err_set(r->e, ERR_INVALID, "operator set: version missing, broken or over %d",
                       ONNX_OPSET_MAX);
    if (!POOL_ADD(r->m->opsets, 1, ONNX_OPSET_MAX, "operator sets", r->e))
        return false;
    r->m->opsets.items[r->m->opsets.count - 1] = o;
    return true;
}

/* What is said before a function's nodes: its name, domain and operator sets. */
static bool function_head(struct reader *r, struct span message, struct ggraph *g)
{
    struct pb p = pb_over(message);
    struct pb_field f;
    enum pb_result got;
    *g = (struct ggraph){.message = message,
                         .parent = ONNX_NONE,
                         .function = true,
                         .opset_first = r->m->opsets.count};
    while ((got = pb_next(&p, &f)) == PB_FIELD) {
        if (f.number == FP_NAME)
            g->name = f.bytes;
        else if (f.number == FP_DOMAIN)
            g->domain = f.bytes;
        else if (f.number == FP_OVERLOAD)
            g->overload = f.bytes;
        else if (f.number == FP_OPSET && !read_opset(r, f.bytes))
            return false;
        if (f.wire != PB_BYTES && f.number < 14 && f.number != 2)
            return err_set(r->e, ERR_INVALID, "a function is broken");
    }
    g->opset_count = r->m->opsets.count - g->opset_first;
    return (got == PB_END && g->name.size) ||
           err_set(r->e, ERR_INVALID, "a function is cut short, broken or has no name");
}

static bool function_body(struct reader *r, uint32_t graph)
{
    struct onnx *m = r->m;
    struct pb p = pb_over(m->graphs.items[graph].message);
    struct pb_field f;
    m->graphs.items[graph].in_first = m->refs.count;
    while (pb_next(&p, &f) == PB_FIELD)
        if (f.number == FP_INPUT) {
            uint32_t id;
            struct gvalue v = {.name = f.bytes,
                               .kind = VALUE_INPUT,
                               .graph = graph,
                               .node = ONNX_NONE,
                               .index = m->graphs.items[graph].in_count++};
            if (!onnx_define(m, v, &id, r->e) || !add_ref(r, id))
                return false;
        }
    if (!read_nodes(r, graph, FP_NODE))
        return false;
    m->graphs.items[graph].node_end = m->nodes.count;
    m->graphs.items[graph].out_first = m->refs.count;
    p = pb_over(m->graphs.items[graph].message);
    while (pb_next(&p, &f) == PB_FIELD)
        if (f.number == FP_OUTPUT) {
            if (!use_value(r, graph, f.bytes, "a function's outputs"))
                return false;
            m->graphs.items[graph].out_count++;
        }
    return true;
}

/* Longest chain of calls from a function; a cycle runs into the limit. */
static bool call_depth(struct reader *r, uint32_t graph, unsigned depth, uint8_t *done)
{
    const struct onnx *m = r->m;
    if (depth > ONNX_DEPTH_MAX)
        return err_set(r->e, ERR_INVALID,
                       "functions call one another deeper than %d (or in a cycle)", ONNX_DEPTH_MAX);
    if (done[graph] > depth)
        return true;
    const struct ggraph *g = &m->graphs.items[graph];
    for (uint32_t i = g->node_first; i < g->node_end; i++)
        if (m->nodes.items[i].function != ONNX_NONE &&
            !call_depth(r, m->nodes.items[i].function, depth + 1, done))
            return false;
    done[graph] = (uint8_t)(depth + 1);
    return true;
}

static bool check_calls(struct reader *r)
{
    uint8_t *done = calloc(r->m->graphs.count, 1);
    if (!done)
        return err_set(r->e, ERR_MEMORY, "functions: no memory");
    bool ok = true;
    for (uint32_t i = 0; ok && i < r->m->functions_count; i++)
        ok = call_depth(r, r->m->functions_first + i, 0, done);
    free(done);
    return ok;
}

static bool read_functions(struct reader *r, struct span message, uint64_t count)
{
    struct onnx *m = r->m;
    if (count > ONNX_FUNCTIONS_MAX)
        return err_set(r->e, ERR_TOO_LARGE, "functions: %" PRIu64 ", more than the limit of %d",
                       count, ONNX_FUNCTIONS_MAX);
    if (!POOL_ADD(m->graphs, count, ONNX_GRAPHS_MAX, "graphs", r->e))
        return false;
    m->functions_first = m->graphs.count - (uint32_t)count;
    uint32_t at = m->functions_first;
    struct pb p = pb_over(message);
    struct pb_field f;
    while (at < m->graphs.count && pb_next(&p, &f) == PB_FIELD)
        if (f.number == MP_FUNCTION && !function_head(r, f.bytes, &m->graphs.items[at++]))
            return false;
    m->functions_count = (uint32_t)count;
    for (uint32_t i = 0; i < count; i++)
        if (!function_body(r, m->functions_first + i))
            return false;
    return check_calls(r);
}

bool read_model(struct reader *r)
{
    struct onnx *m = r->m;
    struct span message = {m->files.items[0].map.data, m->files.items[0].map.size};
    struct pb p = pb_over(message);
    struct pb_field f;
    enum pb_result got;
    uint64_t functions = 0;
    uint32_t graph;
    while ((got = pb_next(&p, &f)) == PB_FIELD) {
        if (f.number == MP_IR && f.wire == PB_VARINT)
            m->ir_version = (int64_t)f.value;
        if (f.number != MP_GRAPH && f.number != MP_OPSET && f.number != MP_FUNCTION)
            continue;
        if (f.wire != PB_BYTES || (f.number == MP_GRAPH && !pb_once(&p, &f)))
            return err_set(r->e, ERR_INVALID,
                           "graph, operator set or function is broken or given twice");
        if (f.number == MP_GRAPH)
            m->graph_message = f.bytes;
        if (f.number == MP_OPSET && !read_opset(r, f.bytes))
            return false;
        functions += f.number == MP_FUNCTION;
    }
    if (got == PB_BAD)
        return err_set(r->e, ERR_INVALID, "is not an ONNX model, or is cut short");
    if (!m->graph_message.data || m->ir_version < 1)
        return err_set(r->e, ERR_INVALID, "is not an ONNX model: no graph or no IR version");
    m->model_opsets = m->opsets.count;
    r->top = ONNX_NONE;
    if (!POOL_ADD(m->graphs, 1, ONNX_GRAPHS_MAX, "graphs", r->e)) /* the main graph's place */
        return false;
    m->graphs.items[ONNX_MAIN].parent = ONNX_NONE;
    return read_functions(r, message, functions) &&
           read_graph(r, m->graph_message, ONNX_NONE, &graph);
}
