/* clock.h - time.  A deadline is a point of the monotonic clock in ns; CLOCK_NEVER is none.
 * Tests of whole fleets replace the source by clock_set_source(). */
#pragma once
#include <stdint.h>
#include <time.h>

#define CLOCK_NEVER INT64_MAX
#define NS_PER_MS 1000000LL
#define NS_PER_S 1000000000LL

int64_t clock_now_ns(void);  /* monotonic */
int64_t clock_wall_ms(void); /* since 1970 */

/* NULL puts the system's clock back.  Set before threads start. */
void clock_set_source(int64_t (*now_ns)(void));

static inline double clock_ms_since(int64_t start_ns)
{
    return (double)(clock_now_ns() - start_ns) / 1e6;
}

/* A deadline ms from now; negative or huge = CLOCK_NEVER. */
int64_t clock_deadline_ms(int64_t ms);

/* Milliseconds until the deadline, at least 0, at most max_ms. */
int64_t clock_left_ms(int64_t deadline_ns, int64_t max_ms);

/* The deadline as a CLOCK_MONOTONIC timespec, for pthread_cond_timedwait on a condition made by
 * clock_cond_init(). */
struct timespec clock_timespec(int64_t deadline_ns);
