/* plan_roi.h - what own devices cost and bring against a cloud (inside cli/ only). */
#pragma once
#include "base/json.h"

/* Prices from a YAML file:
 *     currency: EUR                (text, for the output)
 *     months: 36                   (over which devices are written off)
 *     power_per_kwh: 0.30
 *     requests_per_month: 100000   (without it: from the rates of the instance)
 *     devices: [{name: nuc, price: 400, watts: 15}, ...]     (all devices of the instance)
 *     cloud: {price_per_request: 0.002, gflops: 9000, latency_ms: 40, mbit: 20}
 * instance is the one that was planned, edge its answer.  The cloud's latency is planned the same
 * way: one more device of unlimited memory that holds everything.  *ret: the figures and the
 * assumptions. */
bool plan_roi(const char *path, const json_t *instance, const json_t *edge, json_t **ret,
              struct err *e);

void plan_roi_print(const json_t *roi);
