/* libplan.h - random instances and enumeration for the tests of plan/. */
#pragma once
#include "plan/eval.h"

/* As JSON; the same seed gives the same one.  A third has calls behind calls, one in five a module
 * called twice, some have devices that are alike, no link, or too little memory. */
json_t *random_instance(uint64_t seed, enum plan_objective objective, uint32_t modules,
                        uint32_t devices, bool replicas);

/* Every module feeds every later one, in a model of its own, over links that differ much, or that
 * are not there: bounds that look at requests one by one are far from the least value. */
json_t *knotted_instance(uint64_t seed, enum plan_objective objective, uint32_t modules,
                         uint32_t devices);

struct plan_instance *read_instance(json_t *o); /* takes o; ends the test on an error */

/* Modules of few sizes, and just so much memory that some placement fits: all is a matter of packing. */
void make_tight(struct plan_instance *in, uint64_t seed);

/* All devices but the first can be exchanged: same memory, lanes, run times, links; requests come from
 * the first. */
void make_alike(struct plan_instance *in);

/* The least value over all placements of one device per module; INFINITY: none is feasible. */
double enumerate(const struct plan_instance *in);

/* The seeds of a test: first to first + count, more when S2M3_FULL is set. */
uint64_t seed_count(uint64_t quick, uint64_t full);
