/* check.h - a whole against its modules, bit for bit, on seeded inputs.
 *
 * POST /s2m3/v1/check, answered by any device that can hold the larger of its parts:
 *   {"inputs": [{"name","dtype","shape"}],           seeded tensors, made here
 *    "calls": [{"module": digest, "inputs": [REF]}], in an order in which they can run
 *    "references": [{"module": digest, "inputs": [REF],
 *                    "outputs": [{"name": its output, "call": N, "output": the same of that call}]}]}
 *   REF: {"port": name, "input": N} or {"port": name, "call": N, "output": name}, N an index above
 *
 * A reference is the whole model, or two neighbours joined.  All runs are in a process of their
 * own, with the settings that modules are served with, and one module is loaded at a time.
 *
 * Answer: {"outputs": [{"name","equal","difference"}],  of all references; difference: the largest
 *                                                       of numbers, -1 where there is none
 *          "dims": {digest: {"PORT.INDEX": size}}}      sizes that dynamic dims of modules had
 *
 * Everything is checked first: the question comes over the network (node/question.h). */
#pragma once
#include "net/server.h"

void node_handle_check(struct net_request *r, void *node);
