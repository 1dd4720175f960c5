/* test_share.c - what is found to be shared, what may not be, and modules written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/file.h"
#include "libgolden.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Bytes of the parts that make.py's nets are made of, width 24 */
#define ENTRY (8 * 24 * 4)
#define LAYER ((2 * 24 * 24 + 3 * 24) * 4)
#define D_TOKEN (24 * 4)

static uint64_t saved_by(const char *one, const char *two)
{
    const char *names[] = {one, two};
    struct found f = find_in(2, names, 0);
    uint64_t saved = f.share->unshared_bytes - f.share->shared_bytes;
    found_done(&f);
    return saved;
}

static void shares_what_is_equal(void **state)
{
    (void)state;
    assert_int_equal(saved_by("tower_a", "tower_b"), ENTRY + 3 * LAYER);
    assert_int_equal(saved_by("tower_a", "tower_twice"), ENTRY + 3 * LAYER);
    assert_int_equal(saved_by("tower_five", "tower_gelu"), ENTRY + 3 * LAYER + 24 * 6 * 4);
    assert_int_equal(saved_by("form_raw", "form_external"), ENTRY);
    assert_int_equal(saved_by("form_typed", "form_node"), ENTRY);
    assert_int_equal(saved_by("form_identity", "form_turned"), ENTRY);
    assert_int_equal(saved_by("form_floats", "form_raw"), ENTRY);
}

static void shares_what_stands_behind_a_difference(void **state)
{
    (void)state;
    assert_int_equal(saved_by("tower_a", "tower_changed"), ENTRY + 2 * LAYER);
    assert_int_equal(saved_by("behind_a", "behind_b"), 40 * 24 * 4 + 3 * LAYER + 24 * 7 * 4);
}

/* The same layers the other way round: each is a module of its own, called in either order. */
static void shares_layers_in_another_order(void **state)
{
    (void)state;
    const char *names[] = {"tower_a", "tower_turned"};
    struct found f = find_in(2, names, 0);
    assert_int_equal(f.share->unshared_bytes - f.share->shared_bytes, ENTRY + 3 * LAYER);
    const struct share_model *a = &f.share->models[0], *b = &f.share->models[1];
    assert_int_equal(a->call_count, b->call_count);
    assert_int_equal(a->calls[1].module, b->calls[3].module);
    assert_int_equal(a->calls[2].module, b->calls[2].module);
    assert_int_equal(a->calls[3].module, b->calls[1].module);
    found_done(&f);
}

/* adopted: whether all that is shared is so by a pattern. */
static uint64_t saved_as(const char *one, const char *two, bool adopted)
{
    struct onnx *models[] = {small_model(one), small_model(two)};
    struct share_options o = {.fixed_axes = true};
    struct share *s = NULL;
    struct err e = {0};
    if (!share_find_as(models, 2, &o, &s, &e))
        fail_msg("%s", e.text);
    uint64_t saved = s->unshared_bytes - s->shared_bytes;
    for (size_t i = 0; i < s->module_count; i++)
        if (s->modules[i].models == 3) {
            assert_true(s->modules[i].by_pattern || !adopted);
            assert_int_equal(s->modules[i].model, 0); /* what serves both is the dynamic one */
            assert_int_equal(s->modules[i].inputs[0].shape.dims[0], -1);
        }
    share_free(s);
    onnx_close(models[0]);
    onnx_close(models[1]);
    return saved;
}

static uint64_t saved_with_fixed_axes(const char *one, const char *two)
{
    return saved_as(one, two, true);
}

/* Shapes as numbers or computed: see shapes() in make.py. */
static void shares_with_what_is_fixed(void **state)
{
    (void)state;
    uint64_t all = ENTRY + D_TOKEN + 3 * (24 * 24 + 2 * 24) * 4 + 24 * 6 * 4, numbers = 128;
    uint64_t saved = saved_with_fixed_axes("shape_dynamic", "shape_fixed");
    assert_in_range(saved, all, all + numbers);
    saved = saved_with_fixed_axes("shape_dynamic", "shape_length");
    assert_in_range(saved, all, all + numbers);
    /* a dynamic batch keeps the bits: also without the option */
    saved = saved_by("shape_dynamic", "shape_length");
    assert_in_range(saved, all, all + numbers);
    saved = saved_by("shape_dynamic", "shape_fixed");
    assert_true(saved < all / 2);
}

/* A Reshape's words for a shape, or its numbers: see words(). */
static void shares_shapes_in_other_words(void **state)
{
    (void)state;
    uint64_t all = ENTRY + 3 * 24 * 24 * 4 + 24 * 6 * 4, numbers = 256;
    uint64_t saved = saved_with_fixed_axes("words_dynamic", "words_fixed");
    assert_in_range(saved, all, all + numbers);
    saved = saved_by("words_dynamic", "words_fixed"); /* the fleet keeps to the bits */
    assert_true(saved < all / 2);
    saved = saved_as("words_dynamic", "words_heads", false);
    assert_in_range(saved, 0, ENTRY + 24 * 24 * 4 + numbers); /* up to the first heads */
}

/* One number for three lengths that the dynamic export computes each for itself: see masks(). */
static void shares_what_numbers_make_one(void **state)
{
    (void)state;
    uint64_t all = ENTRY + 24 * 4 + 3 * 24 * 24 * 4 + 24 * 6 * 4, numbers = 128;
    uint64_t turned = 3 * 24 * 24 * 4; /* asked for their shapes only: gone where these are fixed */
    uint64_t saved = saved_by("mask_dynamic", "mask_number");
    assert_in_range(saved, all, all + turned + numbers);
    saved = saved_by("mask_dynamic", "mask_length");
    assert_in_range(saved, all, all + turned + numbers);
}

static struct found find_with_fixed_axes(const char *const names[3])
{
    struct share_options o = {.fixed_axes = true};
    struct found f = {.count = 3};
    struct err e = {0};
    for (size_t i = 0; i < 3; i++)
        f.models[i] = small_model(names[i]);
    if (!share_find_as(f.models, f.count, &o, &f.share, &e))
        fail_msg("%s", e.text);
    return f;
}

/* One model takes the form of two others, in one part each: the axes that are fixed are in one. */
static void shares_with_more_than_one(void **state)
{
    (void)state;
    struct found f =
        find_with_fixed_axes((const char *[]){"cross_both", "cross_picture", "cross_text"});
    uint64_t tower = (8 * 24 + 3 * 24 * 24) * 4, numbers = 256;
    uint64_t saved = f.share->unshared_bytes - f.share->shared_bytes;
    assert_in_range(saved, 2 * tower, 2 * tower + numbers);
    assert_in_range(f.share->models[1].call_count, 1, 2);
    assert_in_range(f.share->models[2].call_count, 1, 2);
    found_done(&f);
    /* the second has a name for two axes that are of different length here */
    f = find_with_fixed_axes((const char *[]){"tower_pair", "tower_a", "tower_twice"});
    assert_true(f.share->unshared_bytes - f.share->shared_bytes >= ENTRY + 3 * LAYER);
    found_done(&f);
}

/* Fixed, and other heads or weights: not a byte more than two dynamic ones would share. */
static void shares_nothing_fixed_that_differs(void **state)
{
    (void)state;
    uint64_t before = ENTRY + D_TOKEN + (24 * 24 + 2 * 24) * 4; /* up to the first heads */
    uint64_t saved = saved_with_fixed_axes("shape_dynamic", "shape_heads");
    assert_in_range(saved, 0, before + 128);
    saved = saved_with_fixed_axes("shape_dynamic", "shape_other");
    assert_in_range(saved, 0, 24 * 6 * 4 + D_TOKEN + 128);
}

/* Kept as a node in one export, folded by the other. */
static void shares_folded_batch_norms(void **state)
{
    (void)state;
    uint64_t all = ((3 + 12 + 12) * 12 * 9 + 3 * 12 + 12 * 5) * 4;
    assert_int_equal(saved_by("norm_kept", "norm_folded"), all);
    assert_int_equal(saved_by("bias_kept", "bias_folded"), all);
    assert_true(saved_by("norm_kept", "norm_eps") < 12 * 5 * 4 + 1);
    assert_true(saved_by("norm_folded", "norm_eps") < 12 * 5 * 4 + 1);
    assert_true(saved_by("norm_kept", "bias_kept") < 12 * 5 * 4 + 1);
}

static void shares_nothing_that_differs(void **state)
{
    (void)state;
    assert_int_equal(saved_by("tower_a", "tower_other"), 0);
    assert_int_equal(saved_by("tower_a", "tower_eps"), ENTRY); /* up to the first norm */
    /* up to the first activation: norm, first product and its bias */
    assert_int_equal(saved_by("tower_a", "tower_act"), ENTRY + (24 * 24 + 3 * 24) * 4);
    assert_int_equal(saved_by("nested_if", "tower_a"), 0);
}

/* Pairs that a canonical form would make one if it were careless: see traps() in make.py. That
 * their answers differ is shown by tests/e2e/test_onnx_bits.py. */
static void what_differs_stays_apart(void **state)
{
    (void)state;
    char name[64], file[96];
    FILE *list = fopen(golden("traps", "list.txt"), "r");
    unsigned count = 0;
    assert_non_null(list);
    while (fscanf(list, "%63s", name) == 1) {
        struct onnx *models[2] = {NULL, NULL};
        struct share *s = NULL;
        struct err e = {0};
        for (int i = 0; i < 2; i++) {
            (void)snprintf(file, sizeof(file), "%s-%d.onnx", name, i);
            if (!onnx_open(golden("traps", file), &models[i], &e))
                fail_msg("%s", e.text);
        }
        if (!share_find(models, 2, 0, &s, &e))
            fail_msg("%s: %s", name, e.text);
        bool same = s->models[0].module_count == s->models[1].module_count;
        for (size_t i = 0; same && i < s->models[0].module_count; i++)
            same = s->models[0].modules[i] == s->models[1].modules[i];
        share_free(s);
        onnx_close(models[0]);
        onnx_close(models[1]);
        if (same)
            fail_msg("%s: found to be the same", name);
        count++;
    }
    (void)fclose(list);
    assert_in_range(count, 30, 1000);
}

/* The same in an order that only a sort finds, and in words of other operator sets. */
static void shares_what_is_said_otherwise(void **state)
{
    (void)state;
    assert_int_equal(saved_by("tower_a", "tower_unsorted"), ENTRY + 3 * LAYER);
    assert_int_equal(saved_by("soft_old", "soft_new"), ENTRY + 24 * 4 * 4);
    assert_int_equal(saved_by("soft_back", "soft_new"), ENTRY + 24 * 4 * 4);
    assert_int_equal(saved_by("tower_given_a", "tower_given_b"), ENTRY + 3 * LAYER);
    assert_int_equal(saved_by("tower_given_a", "tower_a"), 0);
    assert_int_equal(saved_by("scale_root", "scale_number"), ENTRY + 24 * 4 * 4 + 4);
}

/* Halves cross as floats, and as they are where they are an answer: see half.c. */
static void halves_cross_as_floats(void **state)
{
    (void)state;
    const char *names[] = {"half_a", "half_b"};
    struct found f = find_in(2, names, 0);
    const struct share_model *b = &f.share->models[1];
    unsigned twice = 0;
    assert_int_equal(b->call_count, 3);
    for (size_t c = 0; c < 3; c++) {
        const struct share_module *m = &f.share->modules[b->calls[c].module];
        twice += m->output_count == 2;
        for (size_t k = 0; k < m->input_count; k++) {
            const struct share_ref *r = &b->calls[c].inputs[k];
            enum dtype from = DT_F16;
            if (r->call)
                from = f.share->modules[b->calls[r->index].module].outputs[r->output].dtype;
            assert_int_equal(m->inputs[k].dtype, from);
            assert_int_equal(from, r->call ? DT_F32 : DT_F16);
        }
    }
    assert_int_equal(twice, 1);
    for (size_t i = 0; i < 2; i++) {
        const struct share_ref *r = &b->outputs[i];
        assert_int_equal(f.share->modules[b->calls[r->index].module].outputs[r->output].dtype,
                         DT_F16);
    }
    found_done(&f);
}

static const struct share_module *shared_module(const struct found *f)
{
    const struct share_module *found = NULL;
    for (size_t i = 0; i < f->share->module_count; i++)
        if (f->share->modules[i].models == 3) {
            assert_null(found);
            found = &f->share->modules[i];
        }
    assert_non_null(found);
    return found;
}

static void says_how_it_knows(void **state)
{
    (void)state;
    const char *same[] = {"tower_a", "tower_b"}, *nine[] = {"tower_a", "tower_nine"};
    struct found f = find_in(2, same, 0), g = find_in(2, nine, 0);
    assert_false(shared_module(&f)->by_pattern);
    assert_true(shared_module(&g)->by_pattern); /* nine nodes against one LayerNormalization */
    /* a module's name depends on what it computes, not on who is compared */
    assert_string_equal(shared_module(&f)->digest.hex, shared_module(&g)->digest.hex);
    found_done(&f);
    found_done(&g);
}

static void one_module_is_called_twice(void **state)
{
    (void)state;
    const char *names[] = {"tower_twice"};
    struct found f = find_in(1, names, 0);
    const struct share_model *m = &f.share->models[0];
    assert_int_equal(m->call_count, 3);
    assert_int_equal(m->module_count, 2);
    assert_int_equal(m->calls[0].module, m->calls[1].module);
    assert_false(m->calls[0].inputs[0].call);
    assert_int_not_equal(m->calls[0].inputs[0].index, m->calls[1].inputs[0].index);
    assert_true(m->calls[2].inputs[0].call);
    assert_int_equal(f.share->shared_bytes, f.share->unshared_bytes);
    found_done(&f);
}

static void knows_which_input_goes_where(void **state)
{
    (void)state;
    const char *names[] = {"bind_xy", "bind_yx"};
    struct found f = find_in(2, names, 0);
    /* the same three modules, called with x and y the other way round */
    assert_int_equal(f.share->module_count, 3);
    const struct share_model *a = &f.share->models[0], *b = &f.share->models[1];
    for (size_t i = 0; i < a->call_count; i++)
        for (size_t k = 0; k < b->call_count; k++)
            if (a->calls[i].module == b->calls[k].module && !a->calls[i].inputs[0].call)
                assert_int_not_equal(a->calls[i].inputs[0].index, b->calls[k].inputs[0].index);
    found_done(&f);
}

/* One module with two ports is not one with a port used twice, though all node digests are equal. */
static void two_ports_are_not_one(void **state)
{
    (void)state;
    assert_int_equal(saved_by("ports_xy", "ports_xx"), 0);
    assert_int_equal(saved_by("ports_xy", "ports_yx"), 24 * 6 * 4);
    const char *names[] = {"ports_xy", "ports_yx"};
    struct found f = find_in(2, names, 0);
    assert_int_equal(f.share->module_count, 1);
    const struct share_call *a = &f.share->models[0].calls[0], *b = &f.share->models[1].calls[0];
    assert_int_equal(a->inputs[0].index, b->inputs[1].index);
    assert_int_equal(a->inputs[1].index, b->inputs[0].index);
    found_done(&f);
}

/* A weight that a node takes apart belongs to its user: no module without inputs. */
static void weights_are_no_results(void **state)
{
    (void)state;
    const char *names[] = {"tower_a", "split_weight"};
    struct found f = find_in(2, names, 0);
    for (size_t i = 0; i < f.share->module_count; i++)
        assert_int_equal(f.share->modules[i].input_count, 1);
    assert_int_equal(f.share->unshared_bytes - f.share->shared_bytes, ENTRY + 3 * LAYER);
    found_done(&f);
}

/* What is known of no shape could not cross; what only depends on lengths would be parts of its own,
 * with a way from the layers through them back to the layers. */
static void rare_operators_do_not_part_layers(void **state)
{
    (void)state;
    const char *names[] = {"rare_a", "rare_b"};
    struct found f = find_in(2, names, 0);
    assert_int_equal(f.share->module_count, 3);
    assert_int_equal(f.share->models[0].call_count, 2);
    const struct share_module *m = &f.share->modules[f.share->models[0].calls[0].module];
    assert_int_equal(m->models, 3);
    assert_int_equal(m->outputs[0].shape.rank, 3);
    assert_int_equal(m->outputs[0].shape.dims[1], -1);
    assert_int_equal(m->outputs[0].shape.dims[2], 24);
    uint64_t all = ENTRY + (16 * 24 + 2 * 24 * 24 + 2 * 24) * 4 + LAYER, numbers = 128;
    assert_in_range(f.share->unshared_bytes - f.share->shared_bytes, all, all + numbers);
    found_done(&f);
}

static void small_gains_make_no_module(void **state)
{
    (void)state;
    const char *names[] = {"tower_a", "tower_b"};
    struct found f = find_in(2, names, 1 << 20);
    assert_int_equal(f.share->module_count, 2);
    assert_int_equal(f.share->unshared_bytes, f.share->shared_bytes);
    found_done(&f);
}

/* What is written opens again, with the same ports, weights and (alone) the same name. */
static void writes_modules(void **state)
{
    (void)state;
    const char *names[] = {"behind_a", "behind_b"};
    struct found f = find_in(2, names, 0);
    char folder[] = "/tmp/s2m3-onnx-XXXXXX", path[128];
    struct err e = {0};
    assert_non_null(mkdtemp(folder));
    for (size_t i = 0; i < f.share->module_count; i++) {
        const struct share_module *mod = &f.share->modules[i];
        struct onnx *m = NULL;
        struct share *again = NULL;
        uint64_t bytes;
        size_t inputs, outputs;
        if (!share_write(f.share, i, folder, &e))
            fail_msg("%s", e.text);
        (void)snprintf(path, sizeof(path), "%s/module.onnx", folder);
        if (!onnx_open(path, &m, &e))
            fail_msg("%s", e.text);
        const struct port *in = onnx_inputs(m, &inputs), *out = onnx_outputs(m, &outputs);
        assert_int_equal(inputs, mod->input_count);
        assert_int_equal(outputs, mod->output_count);
        for (size_t k = 0; k < inputs; k++) {
            assert_string_equal(in[k].name, mod->inputs[k].name);
            assert_true(shape_equal(&in[k].shape, &mod->inputs[k].shape));
        }
        assert_string_equal(out[0].name, "out0");
        assert_true(onnx_weight_bytes(m, &bytes, &e));
        assert_int_equal(bytes, mod->weight_bytes);
        assert_true(share_find(&m, 1, 1 << 20, &again, &e));
        assert_int_equal(again->module_count, 1);
        assert_string_equal(again->modules[0].digest.hex, mod->digest.hex);
        share_free(again);
        onnx_close(m);
        assert_true(file_remove_tree(path, &e));
        (void)snprintf(path, sizeof(path), "%s/weights.bin", folder);
        assert_true(file_remove_tree(path, &e));
    }
    assert_int_equal(rmdir(folder), 0);
    found_done(&f);
}

static void near_misses_are_named(void **state)
{
    (void)state;
    const char *names[] = {"behind_a", "behind_b"};
    struct found f = find_in(2, names, 1 << 20); /* nothing is worth it */
    assert_int_equal(f.share->near_count, 0);    /* and no single tensor of theirs has 4 KiB */
    found_done(&f);
}

static const char *why_of(const char *one, const char *two, enum share_near_kind kind)
{
    static char why[256];
    const char *names[] = {one, two};
    struct found f = find_in(2, names, 0);
    why[0] = 0;
    for (size_t i = 0; i < f.share->near_count; i++)
        if (f.share->near[i].kind == kind)
            (void)snprintf(why, sizeof(why), "%s", f.share->near[i].why);
    found_done(&f);
    return why;
}

/* Wide enough that their weights are worth a word. */
static void near_misses_say_why(void **state)
{
    (void)state;
    assert_string_equal(why_of("wide_a", "wide_eps", SHARE_NEAR_FORM),
                        "same weights, other epsilon: 1e-05 and 1e-06 (LayerNormalization), from "
                        "layer 0 on");
    assert_string_equal(why_of("wide_a", "wide_act", SHARE_NEAR_FORM),
                        "same weights, other activation: Relu and Tanh, from layer 0 on");
    /* 2 products and 2 vectors of a norm and a bias in each of 3 layers, and the entry and head */
    assert_string_equal(why_of("wide_a", "wide_changed", SHARE_NEAR_CHANGED),
                        "in 5 of 17 weights, all in layer 1");
    assert_string_equal(why_of("wide_a", "wide_changed", SHARE_NEAR_FORM), "");
    /* zeros stand in several places of both, and in one less of the second */
    assert_string_equal(why_of("wide_new", "wide_new_changed", SHARE_NEAR_CHANGED),
                        "in 5 of 17 weights, all in layer 1");
    assert_string_equal(why_of("fill_a", "fill_b", SHARE_NEAR_FORM), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shares_what_is_equal),
        cmocka_unit_test(shares_what_stands_behind_a_difference),
        cmocka_unit_test(shares_layers_in_another_order),
        cmocka_unit_test(shares_with_what_is_fixed),
        cmocka_unit_test(shares_shapes_in_other_words),
        cmocka_unit_test(shares_what_numbers_make_one),
        cmocka_unit_test(shares_with_more_than_one),
        cmocka_unit_test(shares_nothing_fixed_that_differs),
        cmocka_unit_test(shares_folded_batch_norms),
        cmocka_unit_test(shares_nothing_that_differs),
        cmocka_unit_test(halves_cross_as_floats),
        cmocka_unit_test(what_differs_stays_apart),
        cmocka_unit_test(shares_what_is_said_otherwise),
        cmocka_unit_test(says_how_it_knows),
        cmocka_unit_test(one_module_is_called_twice),
        cmocka_unit_test(knows_which_input_goes_where),
        cmocka_unit_test(two_ports_are_not_one),
        cmocka_unit_test(weights_are_no_results),
        cmocka_unit_test(rare_operators_do_not_part_layers),
        cmocka_unit_test(small_gains_make_no_module),
        cmocka_unit_test(writes_modules),
        cmocka_unit_test(near_misses_are_named),
        cmocka_unit_test(near_misses_say_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
