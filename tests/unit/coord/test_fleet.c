/* The coordinator's data: joins, figures, the table (make before break), and a restart. */
#include "base/file.h"
#include "coord/fleet.h"
#include "lib/cmocka.h"
#include "lib/temp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define D1 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define D2 "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

struct world {
    struct state *state;
    struct fleet fleet;
    char *path;
};

static void open_world(struct world *w)
{
    struct err e;
    if (!w->path)
        w->path = text_format("%s/state.db", temp_make());
    assert_true(state_open(w->path, &w->state, &e));
    if (!fleet_open(&w->fleet, w->state, &e))
        fail_msg("%s", e.text);
}

static void close_world(struct world *w, bool last)
{
    fleet_close(&w->fleet);
    state_close(w->state);
    if (last) {
        free(w->path);
        temp_remove();
    }
}

static struct device *join(struct world *w, const char *name, const char *id)
{
    struct err e;
    struct device *d;
    struct join_request r = {.lanes = 1, .gflops = 10, .memory_bytes = 1000};
    (void)snprintf(r.name, sizeof(r.name), "%s", name);
    (void)snprintf(r.id, sizeof(r.id), "%s", id);
    (void)snprintf(r.peer_url, sizeof(r.peer_url), "http://127.0.0.1:1");
    assert_true(fleet_join(&w->fleet, &r, &d, &e));
    return d;
}

static void beat(struct world *w, const char *id, const char *digest, enum module_state state)
{
    struct err e;
    struct device *d = fleet_device(&w->fleet, id);
    struct heartbeat h = {.modules = calloc(1, sizeof(struct module_report)),
                          .module_count = digest ? 1 : 0};
    if (digest) {
        (void)snprintf(h.modules[0].digest.hex, DIGEST_HEX + 1, "%s", digest);
        h.modules[0].state = state;
        h.modules[0].measured = state == MODULE_READY;
        h.modules[0].anonymous = 10;
        h.modules[0].file = 5;
        h.modules[0].run_ms = 2;
    }
    assert_true(fleet_heartbeat(&w->fleet, d, &h, &e));
}

static void enter(struct world *w, const char *name, const char *digest, bool stage)
{
    struct err e;
    struct module m = {.file_bytes = 100, .weight_bytes = 90, .gflop = 0.5};
    (void)snprintf(m.digest.hex, sizeof(m.digest.hex), "%s", digest);
    (void)snprintf(m.name, sizeof(m.name), "vision");
    json_t *model =
        json_pack("{s:[s],s:[],s:[],s:[s]}", "modules", digest, "programs", "blobs", "tasks", "x");
    if (!(stage ? fleet_stage : fleet_add_model)(&w->fleet, name, model, &m, 1, &e))
        fail_msg("%s", e.text);
}

static void add_model(struct world *w, const char *name, const char *digest)
{
    enter(w, name, digest, false);
}

static int replicas(struct world *w, const char *digest, int *serving)
{
    struct err e;
    struct table *t = fleet_table(&w->fleet, &e);
    const struct table_module *m = table_find_module(t, digest);
    int n = (int)m->replica_count;
    *serving = 0;
    for (int i = 0; i < n; i++)
        *serving += m->replicas[i].serving;
    table_unref(t);
    return n;
}

static void names_and_ids(void **state)
{
    (void)state;
    struct world w = {0};
    open_world(&w);
    char id[WIRE_ID_MAX];
    (void)snprintf(id, sizeof(id), "%s", join(&w, "nuc", "")->join.id);
    assert_string_equal(join(&w, "nuc", "")->join.name, "nuc#2");
    assert_int_equal(w.fleet.device_count, 2);
    struct device *again = join(&w, "nuc", id); /* the same device comes back */
    assert_int_equal(w.fleet.device_count, 2);
    assert_string_equal(again->join.id, id);
    assert_string_equal(again->join.name, "nuc");
    close_world(&w, true);
}

static void make_before_break(void **state)
{
    (void)state;
    struct world w = {0};
    struct err e;
    int serving;
    char a[WIRE_ID_MAX], b[WIRE_ID_MAX];
    open_world(&w);
    (void)snprintf(a, sizeof(a), "%s", join(&w, "a", "")->join.id);
    (void)snprintf(b, sizeof(b), "%s", join(&w, "b", "")->join.id);
    add_model(&w, "m", D1);
    const char *on_a[] = {a}, *on_b[] = {b};
    assert_true(fleet_place(&w.fleet, fleet_module(&w.fleet, D1), on_a, 1, "", &e));
    assert_int_equal(replicas(&w, D1, &serving), 1);
    assert_int_equal(serving, 0);
    beat(&w, a, D1, MODULE_READY);
    assert_int_equal(replicas(&w, D1, &serving), 1);
    assert_int_equal(serving, 1);
    assert_true(fleet_place(&w.fleet, fleet_module(&w.fleet, D1), on_b, 1, "", &e));
    beat(&w, b, D1, MODULE_LOADING);
    assert_int_equal(replicas(&w, D1, &serving), 2); /* the old one serves on */
    assert_int_equal(serving, 1);
    beat(&w, b, D1, MODULE_READY);
    assert_int_equal(replicas(&w, D1, &serving), 1); /* now it may go */
    assert_int_equal(serving, 1);
    fleet_device(&w.fleet, b)->alive = false;
    assert_int_equal(replicas(&w, D1, &serving), 2); /* desired but dead, and the old one again */
    assert_int_equal(serving, 1);
    close_world(&w, true);
}

static void removing_keeps_what_others_use(void **state)
{
    (void)state;
    struct world w = {0};
    struct err e;
    open_world(&w);
    add_model(&w, "one", D1);
    add_model(&w, "two", D1);
    add_model(&w, "three", D2);
    assert_int_equal(w.fleet.module_count, 2);
    assert_int_equal(fleet_users(&w.fleet, D1), 2);
    json_t *again = json_pack("{s:[]}", "modules");
    assert_false(fleet_add_model(&w.fleet, "one", again, NULL, 0, &e));
    assert_int_equal(e.code, ERR_EXISTS);
    assert_true(fleet_remove_model(&w.fleet, "one", &e));
    assert_non_null(fleet_module(&w.fleet, D1));
    assert_true(fleet_remove_model(&w.fleet, "two", &e));
    assert_null(fleet_module(&w.fleet, D1));
    assert_false(fleet_remove_model(&w.fleet, "two", &e));
    assert_int_equal(e.code, ERR_NOT_FOUND);
    close_world(&w, true);
}

static void a_restart_finds_it_all(void **state)
{
    (void)state;
    struct world w = {0};
    struct err e;
    char a[WIRE_ID_MAX], fleet_id[WIRE_ID_MAX];
    open_world(&w);
    (void)snprintf(fleet_id, sizeof(fleet_id), "%s", w.fleet.id);
    (void)snprintf(a, sizeof(a), "%s", join(&w, "a", "")->join.id);
    add_model(&w, "m", D1);
    const char *on_a[] = {a};
    assert_true(fleet_place(&w.fleet, fleet_module(&w.fleet, D1), on_a, 1, "because", &e));
    beat(&w, a, D1, MODULE_READY);
    close_world(&w, false);

    open_world(&w);
    assert_string_equal(w.fleet.id, fleet_id);
    assert_int_equal(w.fleet.device_count, 1);
    assert_false(w.fleet.devices[0].alive);
    const struct module *m = fleet_module(&w.fleet, D1);
    assert_string_equal(m->desired[0], a);
    assert_string_equal(m->reason, "because");
    assert_int_equal(fleet_users(&w.fleet, D1), 1);
    bool measured;
    assert_int_equal(fleet_memory(&w.fleet, m, a, &measured), 15);
    assert_true(measured);
    assert_true(fleet_run_ms(&w.fleet, m, &w.fleet.devices[0], &measured) == 2);
    close_world(&w, true);
}

static void unknown_times_follow_the_speeds(void **state)
{
    (void)state;
    struct world w = {0};
    bool measured;
    open_world(&w);
    char a[WIRE_ID_MAX];
    (void)snprintf(a, sizeof(a), "%s", join(&w, "a", "")->join.id);
    add_model(&w, "m", D1);
    beat(&w, a, D1, MODULE_READY); /* 2 ms at 10 GFLOP/s */
    struct device *slow = join(&w, "slow", "");
    slow->join.gflops = 2.5;
    assert_true(fleet_run_ms(&w.fleet, fleet_module(&w.fleet, D1), slow, &measured) == 8);
    assert_false(measured);
    close_world(&w, true);
}

static uint32_t models_in_table(struct world *w)
{
    struct err e;
    struct table *t = fleet_table(&w->fleet, &e);
    uint32_t n = t->model_count;
    table_unref(t);
    return n;
}

/* A model's new form stands beside the old one until it is committed, and no request sees it. */
static void staged_forms_wait_for_the_commit(void **state)
{
    (void)state;
    struct world w = {0};
    struct err e;
    open_world(&w);
    add_model(&w, "one", D1);
    enter(&w, "one", D2, true);
    enter(&w, "two", D2, true);
    assert_int_equal(models_in_table(&w), 1);
    assert_non_null(fleet_module(&w.fleet, D1));
    assert_non_null(fleet_module(&w.fleet, D2));
    assert_true(fleet_commit(&w.fleet, &e));
    assert_int_equal(models_in_table(&w), 2);
    assert_null(fleet_module(&w.fleet, D1));
    assert_int_equal(fleet_users(&w.fleet, D2), 2);
    close_world(&w, false);

    open_world(&w); /* it is written down */
    assert_int_equal(w.fleet.model_count, 2);
    assert_string_equal(fleet_model(&w.fleet, "one")->modules[0].hex, D2);
    enter(&w, "two", D1, true);
    fleet_unstage(&w.fleet);
    assert_int_equal(w.fleet.model_count, 2);
    assert_null(fleet_module(&w.fleet, D1));
    close_world(&w, true);
}

/* What was staged when the coordinator ended is as if it had never been. */
static void a_restart_forgets_what_is_staged(void **state)
{
    (void)state;
    struct world w = {0};
    open_world(&w);
    add_model(&w, "one", D1);
    enter(&w, "one", D2, true);
    close_world(&w, false);
    open_world(&w);
    assert_int_equal(w.fleet.model_count, 1);
    assert_int_equal(w.fleet.module_count, 1);
    assert_string_equal(fleet_model(&w.fleet, "one")->modules[0].hex, D1);
    close_world(&w, true);
}

static void times_in_service_stretch_those_measured(void **state)
{
    (void)state;
    struct world w = {0};
    struct err e;
    open_world(&w);
    char a[WIRE_ID_MAX];
    (void)snprintf(a, sizeof(a), "%s", join(&w, "a", "")->join.id);
    add_model(&w, "m", D1);
    beat(&w, a, D1, MODULE_READY);
    assert_true(fleet_stretch(fleet_module(&w.fleet, D1)) == 1);
    for (int i = 1; i <= 3; i++) {
        struct heartbeat h = {.modules = calloc(1, sizeof(struct module_report)),
                              .module_count = 1};
        (void)snprintf(h.modules[0].digest.hex, DIGEST_HEX + 1, "%s", D1);
        h.modules[0].state = MODULE_READY;
        h.modules[0].run_ms = 2;
        h.modules[0].runs = 15 * (uint64_t)(unsigned)i;
        h.modules[0].busy_ms = 90.0 * i; /* 6 ms each */
        assert_true(fleet_heartbeat(&w.fleet, fleet_device(&w.fleet, a), &h, &e));
        double x = fleet_stretch(fleet_module(&w.fleet, D1));
        assert_true(i < 2 ? x == 1 : x > 2.99 && x < 3.01);
    }
    beat(&w, a, D1, MODULE_READY); /* a new process counts from 0 */
    assert_true(fleet_stretch(fleet_module(&w.fleet, D1)) > 2.99);
    close_world(&w, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_ids),
        cmocka_unit_test(make_before_break),
        cmocka_unit_test(removing_keeps_what_others_use),
        cmocka_unit_test(a_restart_finds_it_all),
        cmocka_unit_test(unknown_times_follow_the_speeds),
        cmocka_unit_test(times_in_service_stretch_those_measured),
        cmocka_unit_test(staged_forms_wait_for_the_commit),
        cmocka_unit_test(a_restart_forgets_what_is_staged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
