/* samples.h - times of repeated steps, and their median and percentiles. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SAMPLES_MAX 100000

struct samples {
    double *us; /* owned */
    size_t count;
};

bool samples_init(struct samples *s);
void samples_add(struct samples *s, int64_t start_ns,
                 int64_t end_ns); /* beyond the limit: dropped */
/* part 0 .. 1, nearest rank; 0 without samples.  Sorts. */
double samples_at(struct samples *s, double part);
void samples_free(struct samples *s);
