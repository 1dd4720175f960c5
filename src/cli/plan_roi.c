/* plan_roi.c - `plan --roi`: cost per month, latency and break-even of own devices against a cloud.
 *
 * Devices cost their price over `months` and their watts all the time; the cloud costs per request.
 * What is left out is said with the figures: work, repairs, discounts, idle modes. */
#include "cli/plan_roi.h"

#include "base/file.h"
#include "base/parse.h"
#include "plan/plan.h"

#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#define PRICES_BYTES_MAX (1u << 20)
#define PRICES_DEPTH_MAX 8
#define HOURS_PER_MONTH 730.5
#define SECONDS_PER_MONTH (HOURS_PER_MONTH * 3600)
#define CLOUD_NAME "(cloud)"
#define CLOUD_LANES 64

/* ---- YAML as JSON: mappings, lists, and scalars as numbers where they are ones ---- */

static json_t *to_json(yaml_document_t *doc, const yaml_node_t *node, int depth)
{
    double x;
    if (!node || depth > PRICES_DEPTH_MAX)
        return json_null();
    if (node->type == YAML_SCALAR_NODE) {
        const char *text = (const char *)node->data.scalar.value;
        return parse_double("", text, -DBL_MAX, DBL_MAX, &x, NULL) ? json_real(x)
                                                                   : json_string(text);
    }
    if (node->type == YAML_SEQUENCE_NODE) {
        json_t *list = json_array();
        for (yaml_node_item_t *i = node->data.sequence.items.start;
             i < node->data.sequence.items.top; i++)
            json_array_append_new(list, to_json(doc, yaml_document_get_node(doc, *i), depth + 1));
        return list;
    }
    json_t *o = json_object();
    for (yaml_node_pair_t *p = node->data.mapping.pairs.start;
         node->type == YAML_MAPPING_NODE && p < node->data.mapping.pairs.top; p++) {
        const yaml_node_t *key = yaml_document_get_node(doc, p->key);
        if (key && key->type == YAML_SCALAR_NODE)
            json_object_set_new(o, (const char *)key->data.scalar.value,
                                to_json(doc, yaml_document_get_node(doc, p->value), depth + 1));
    }
    return o;
}

static json_t *read_prices(const char *path, struct err *e)
{
    yaml_parser_t parser;
    yaml_document_t doc;
    char *data;
    size_t size;
    json_t *o = NULL;
    if (!file_read(path, PRICES_BYTES_MAX, &data, &size, e))
        return NULL;
    if (!yaml_parser_initialize(&parser)) {
        free(data);
        err_set(e, ERR_MEMORY, "no memory");
        return NULL;
    }
    yaml_parser_set_input_string(&parser, (const unsigned char *)data, size);
    if (yaml_parser_load(&parser, &doc)) {
        o = to_json(&doc, yaml_document_get_root_node(&doc), 0);
        yaml_document_delete(&doc);
    } else {
        err_set(e, ERR_INVALID, "%s: not YAML at line %zu", path, parser.problem_mark.line + 1);
    }
    yaml_parser_delete(&parser);
    free(data);
    if (o && !json_is_object(o)) {
        json_decref(o);
        o = NULL;
        err_set(e, ERR_INVALID, "%s: should be a list of 'name: value'", path);
    }
    return o;
}

/* ---- figures ---- */

struct figures {
    double months, power, requests; /* requests per month */
    double price, watts;            /* of all devices */
    double per_request;             /* cloud */
    double cloud_ms, edge_ms;       /* sum of weight * latency */
};

static bool device_costs(const char *path, const json_t *prices, const json_t *instance,
                         struct figures *f, struct err *e)
{
    const json_t *devices = json_object_get(instance, "devices");
    static const char *const keys[] = {"name", "price", "watts", NULL};
    json_t *rows;
    if (!json_need_array(prices, path, "devices", PLAN_DEVICES_MAX, &rows, e))
        return false;
    for (size_t i = 0; i < json_array_size(devices); i++) {
        const char *name = json_string_value(json_object_get(json_array_get(devices, i), "name"));
        const json_t *row = NULL;
        double price, watts;
        for (size_t k = 0; k < json_array_size(rows) && !row; k++) {
            const char *mine = json_string_value(json_object_get(json_array_get(rows, k), "name"));
            row = mine && strcmp(mine, name) == 0 ? json_array_get(rows, k) : NULL;
        }
        if (!row)
            return err_set(e, ERR_INVALID, "%s: no price of device '%.100s'", path, name);
        if (!json_only_keys(row, name, keys, e) ||
            !json_need_num(row, name, "price", 0, 1e12, &price, e) ||
            !json_need_num(row, name, "watts", 0, 1e9, &watts, e))
            return false;
        f->price += price;
        f->watts += watts;
    }
    return true;
}

static double rates(const json_t *instance)
{
    const json_t *requests = json_object_get(instance, "requests");
    double sum = 0;
    for (size_t i = 0; i < json_array_size(requests); i++)
        sum += json_number_value(json_object_get(json_array_get(requests, i), "rate_per_s"));
    return sum * SECONDS_PER_MONTH;
}

/* What a module takes in the cloud is known by its gflop only. */
static bool all_have_gflop(const json_t *instance, struct err *e)
{
    const json_t *modules = json_object_get(instance, "modules");
    for (size_t i = 0; i < json_array_size(modules); i++) {
        const json_t *m = json_array_get(modules, i);
        if (!json_object_get(m, "gflop"))
            return err_set(e, ERR_INVALID,
                           "cloud: module '%.100s' has no gflop: what it takes there is not known",
                           json_string_value(json_object_get(m, "name")));
    }
    return true;
}

/* The instance with one more device of its speed and link that holds everything. */
static bool cloud_time(const json_t *instance, const json_t *cloud, double *ret, struct err *e)
{
    double gflops, latency, mbit;
    if (!json_need_num(cloud, "cloud", "gflops", 1e-9, 1e12, &gflops, e) ||
        !json_need_num(cloud, "cloud", "latency_ms", 0, 1e9, &latency, e) ||
        !json_need_num(cloud, "cloud", "mbit", 1e-9, 1e9, &mbit, e) || !all_have_gflop(instance, e))
        return false;
    json_t *o = json_deep_copy(instance), *pins = json_object(), *answer = NULL;
    json_t *devices = json_object_get(o, "devices"), *modules = json_object_get(o, "modules");
    if (!json_object_get(o, "links"))
        json_object_set_new(o, "links", json_array());
    for (size_t i = 0; i < json_array_size(devices); i++)
        json_array_append_new(json_object_get(o, "links"),
                              json_pack("{s:s,s:O,s:f,s:f}", "a", CLOUD_NAME, "b",
                                        json_object_get(json_array_get(devices, i), "name"),
                                        "latency_ms", latency, "mbit", mbit));
    json_array_append_new(devices, json_pack("{s:s,s:I,s:i,s:f}", "name", CLOUD_NAME,
                                             "memory_bytes", (json_int_t)PLAN_BYTES_MAX, "lanes",
                                             CLOUD_LANES, "gflops", gflops));
    for (size_t i = 0; i < json_array_size(modules); i++)
        json_object_set_new(pins,
                            json_string_value(json_object_get(json_array_get(modules, i), "name")),
                            json_pack("[s]", CLOUD_NAME));
    struct plan_options options = {.method = PLAN_BEST_GREEDY, .pins = pins};
    bool ok = plan_run_json(o, &options, &answer, e) || err_prefix(e, "cloud");
    if (ok)
        *ret = json_number_value(json_object_get(answer, "value"));
    json_decref(answer);
    json_decref(pins);
    json_decref(o);
    return ok;
}

static json_t *figures_json(const struct figures *f, const char *currency)
{
    double power = f->watts / 1000 * HOURS_PER_MONTH * f->power;
    double edge = f->price / f->months + power, cloud = f->requests * f->per_request;
    json_t *even = cloud > power ? json_real(f->price / (cloud - power)) : json_null();
    return json_pack(
        "{s:s,s:f,s:{s:f,s:f,s:f,s:f},s:{s:f,s:f},s:o,s:{s:f,s:f,s:s}}", "currency", currency,
        "requests_per_month", f->requests, "edge", "cost_per_month", edge, "devices", f->price,
        "power_per_month", power, "value_ms", f->edge_ms, "cloud", "cost_per_month", cloud,
        "value_ms", f->cloud_ms, "break_even_months", even, "assumptions", "months", f->months,
        "power_per_kwh", f->power, "note",
        "devices draw their watts all the time; work, repairs, discounts and idle modes are left "
        "out; the cloud holds all modules and its time counts the link");
}

bool plan_roi(const char *path, const json_t *instance, const json_t *edge, json_t **ret,
              struct err *e)
{
    struct figures f = {.months = 36,
                        .requests = rates(instance),
                        .edge_ms = json_number_value(json_object_get(edge, "value"))};
    const char *currency = "";
    static const char *const keys[] = {
        "currency", "months", "power_per_kwh", "requests_per_month", "devices", "cloud", NULL};
    static const char *const cloud_keys[] = {"price_per_request", "gflops", "latency_ms", "mbit",
                                             NULL};
    json_t *cloud, *prices = read_prices(path, e);
    if (!prices)
        return false;
    bool ok = json_only_keys(prices, path, keys, e) &&
              json_opt_str(prices, path, "currency", &currency, e) &&
              json_opt_num(prices, path, "months", 0.01, 1200, &f.months, e) &&
              json_need_num(prices, path, "power_per_kwh", 0, 1e6, &f.power, e) &&
              json_opt_num(prices, path, "requests_per_month", 0, 1e15, &f.requests, e) &&
              json_need_object(prices, path, "cloud", &cloud, e) &&
              json_only_keys(cloud, "cloud", cloud_keys, e) &&
              json_need_num(cloud, "cloud", "price_per_request", 0, 1e9, &f.per_request, e) &&
              device_costs(path, prices, instance, &f, e) &&
              cloud_time(instance, cloud, &f.cloud_ms, e);
    if (ok && f.requests <= 0)
        ok = err_set(e, ERR_INVALID,
                     "%s: requests_per_month is missing, and the instance has no rates", path);
    if (ok)
        *ret = figures_json(&f, currency);
    json_decref(prices);
    return ok && (*ret || err_set(e, ERR_MEMORY, "no memory"));
}

static double at(const json_t *o, const char *part, const char *key)
{
    return json_number_value(json_object_get(part ? json_object_get(o, part) : o, key));
}

void plan_roi_print(const json_t *roi)
{
    const char *currency = json_string_value(json_object_get(roi, "currency"));
    const json_t *even = json_object_get(roi, "break_even_months");
    printf("\n%-32s %14s %14s\n", "", "own devices", "cloud");
    printf("%-32s %14.2f %14.2f %s\n", "cost per month", at(roi, "edge", "cost_per_month"),
           at(roi, "cloud", "cost_per_month"), currency);
    printf("%-32s %14.2f %14.2f ms\n", "time, weighted sum", at(roi, "edge", "value_ms"),
           at(roi, "cloud", "value_ms"));
    if (json_is_number(even))
        printf("own devices are paid back after %.1f months\n", json_number_value(even));
    else
        printf("own devices are never paid back at this rate\n");
    printf(
        "assumed: %.0f requests a month, devices written off over %.0f months, %.3g%s%s per kWh; "
        "%s\n",
        at(roi, NULL, "requests_per_month"), at(roi, "assumptions", "months"),
        at(roi, "assumptions", "power_per_kwh"), *currency ? " " : "", currency,
        json_string_value(json_object_get(json_object_get(roi, "assumptions"), "note")));
}
