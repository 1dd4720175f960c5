/* knapsack.h - which things fit together and are worth most (inside plan/ only). */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct knapsack_thing {
    double value, bytes, density;
    uint32_t index;
};

/* Scratch for up to so many things. */
struct knapsack {
    struct knapsack_thing *things; /* owned */
    bool *taken, *best;            /* owned */
    uint32_t count;
    double best_value;
    uint32_t nodes;
    bool gave_up;
};

bool knapsack_init(struct knapsack *k, uint32_t count);
void knapsack_done(struct knapsack *k);

/* The most value that fits into room: exact for small instances, else an upper bound; chosen (stride
 * apart) is a choice that fits.  Things that are worth nothing are not chosen. */
double knapsack(struct knapsack *k, const double *value, const double *bytes, double room,
                bool *chosen, size_t stride);
