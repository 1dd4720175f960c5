/* clock.c - monotonic and wall time. */
#include "base/clock.h"

#include <stddef.h>

static int64_t (*source)(void);

static int64_t read_clock(clockid_t id)
{
    struct timespec t;
    (void)clock_gettime(id, &t);
    return (int64_t)t.tv_sec * NS_PER_S + t.tv_nsec;
}

int64_t clock_now_ns(void)
{
    return source ? source() : read_clock(CLOCK_MONOTONIC);
}

int64_t clock_wall_ms(void)
{
    return read_clock(CLOCK_REALTIME) / NS_PER_MS;
}

void clock_set_source(int64_t (*now_ns)(void))
{
    source = now_ns;
}

int64_t clock_deadline_ms(int64_t ms)
{
    if (ms < 0 || ms > INT64_MAX / NS_PER_MS / 4)
        return CLOCK_NEVER;
    return clock_now_ns() + ms * NS_PER_MS;
}

int64_t clock_left_ms(int64_t deadline_ns, int64_t max_ms)
{
    if (deadline_ns == CLOCK_NEVER)
        return max_ms;
    int64_t left = (deadline_ns - clock_now_ns() + NS_PER_MS - 1) / NS_PER_MS;
    if (left < 0)
        return 0;
    return left < max_ms ? left : max_ms;
}

struct timespec clock_timespec(int64_t deadline_ns)
{
    if (deadline_ns == CLOCK_NEVER)
        deadline_ns = clock_now_ns() + 86400 * NS_PER_S * 365;
    return (struct timespec){.tv_sec = (time_t)(deadline_ns / NS_PER_S),
                             .tv_nsec = (long)(deadline_ns % NS_PER_S)};
}
