/* Tables, joins and heartbeats survive JSON; broken ones are refused. */
#include "lib/cmocka.h"
#include "wire/cluster.h"
#include "wire/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define D1 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static struct table *sample(void)
{
    struct table *t = table_new();
    t->version = 9;
    (void)snprintf(t->fleet, sizeof(t->fleet), "fleet-1");
    t->devices = calloc(2, sizeof(*t->devices));
    t->device_count = 2;
    for (int i = 0; i < 2; i++) {
        (void)snprintf(t->devices[i].id, WIRE_ID_MAX, "dev-%d", i);
        (void)snprintf(t->devices[i].name, WIRE_NAME_MAX, "box %d", i);
        t->devices[i].lanes = 1;
        t->devices[i].alive = i == 0;
    }
    t->modules = calloc(1, sizeof(*t->modules));
    t->module_count = 1;
    (void)snprintf(t->modules[0].digest.hex, DIGEST_HEX + 1, "%s", D1);
    t->modules[0].replicas = calloc(1, sizeof(struct table_replica));
    t->modules[0].replica_count = 1;
    t->modules[0].replicas[0] = (struct table_replica){.device = 1, .run_ms = 2.5, .serving = true};
    t->models = calloc(1, sizeof(*t->models));
    t->model_count = 1;
    (void)snprintf(t->models[0].name, WIRE_NAME_MAX, "m");
    t->models[0].programs = json_pack("[{s:s}]", "task", "x");
    t->links = calloc(1, sizeof(*t->links));
    t->link_count = 1;
    t->links[0] = (struct table_link){.a = 0, .b = 1, .latency_ms = 0.3, .mbit = 94};
    return t;
}

static void table_survives(void **state)
{
    (void)state;
    struct err e;
    struct table *t = sample();
    json_t *a = table_to_json(t);
    struct table *u = table_from_json(a, &e);
    assert_non_null(u);
    json_t *b = table_to_json(u);
    assert_true(json_equal(a, b));
    const struct table_module *m = table_find_module(u, D1);
    assert_non_null(m);
    assert_true(table_holds(u, "dev-1", m));
    assert_false(table_holds(u, "dev-0", m));
    assert_true(table_find_link(u, 1, 0)->mbit == 94);
    assert_null(table_find_model(u, "other"));
    json_decref(a);
    json_decref(b);
    table_unref(t);
    table_unref(u);
}

/* Taking any one member away, or making it null, must fail or give a table: never a crash. */
static void mutilated_tables(void **state)
{
    (void)state;
    static const char *const lists[] = {"devices", "modules", "models", "links"};
    struct table *t = sample();
    int refused = 0;
    for (int l = 0; l < 4; l++) {
        json_t *whole = table_to_json(t), *value;
        const char *key;
        json_t *row = json_array_get(json_object_get(whole, lists[l]), 0);
        json_t *copy = json_deep_copy(row);
        json_object_foreach(copy, key, value)
        {
            struct err e = {0};
            json_object_set_new(row, key, json_pack("[i]", 77777));
            struct table *u = table_from_json(whole, &e);
            refused += !u;
            assert_true(u || e.text[0]);
            table_unref(u);
            json_object_set(row, key, value);
        }
        json_decref(copy);
        json_decref(whole);
    }
    assert_true(refused > 10);
    table_unref(t);
}

static void replica_outside_is_refused(void **state)
{
    (void)state;
    struct err e;
    struct table *t = sample();
    t->modules[0].replicas[0].device = 2;
    json_t *o = table_to_json(t);
    assert_null(table_from_json(o, &e));
    assert_non_null(strstr(e.text, "device"));
    json_decref(o);
    table_unref(t);
}

static void heartbeat_survives(void **state)
{
    (void)state;
    struct err e;
    struct module_report r = {
        .state = MODULE_READY, .measured = true, .anonymous = 5, .file = 6, .run_ms = 1.25};
    (void)snprintf(r.digest.hex, sizeof(r.digest.hex), "%s", D1);
    struct link_report l = {.device = "dev-2", .latency_ms = 1, .mbit = 100};
    struct heartbeat in = {.id = "dev-1",
                           .table_version = 4,
                           .modules = &r,
                           .module_count = 1,
                           .links = &l,
                           .link_count = 1},
                     out;
    json_t *o = heartbeat_json(&in);
    assert_non_null(o);
    assert_true(heartbeat_read(o, &out, &e));
    assert_int_equal(out.module_count, 1);
    assert_int_equal(out.modules[0].state, MODULE_READY);
    assert_true(out.modules[0].run_ms == 1.25);
    assert_string_equal(out.links[0].device, "dev-2");
    heartbeat_clear(&out);
    json_object_set_new(json_array_get(json_object_get(o, "modules"), 0), "state",
                        json_string("odd"));
    assert_false(heartbeat_read(o, &out, &e));
    assert_non_null(strstr(e.text, "odd"));
    json_decref(o);
}

static void join_needs_name_and_address(void **state)
{
    (void)state;
    struct err e;
    struct join_request in = {.name = "nuc",
                              .peer_url = "http://127.0.0.1:1",
                              .lanes = 2,
                              .gflops = 10},
                        out;
    json_t *o = join_request_json(&in);
    assert_true(join_request_read(o, &out, &e));
    assert_int_equal(out.lanes, 2);
    json_object_set_new(o, "lanes", json_integer(0));
    assert_false(join_request_read(o, &out, &e));
    json_object_set_new(o, "lanes", json_integer(1));
    json_object_set_new(o, "name", json_string(""));
    assert_false(join_request_read(o, &out, &e));
    json_decref(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_survives),
        cmocka_unit_test(mutilated_tables),
        cmocka_unit_test(replica_outside_is_refused),
        cmocka_unit_test(heartbeat_survives),
        cmocka_unit_test(join_needs_name_and_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
