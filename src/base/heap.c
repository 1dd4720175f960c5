/* heap.c - glibc's malloc, told to give memory back. */
#include "base/heap.h"

#include "base/clock.h"

#include <malloc.h>
#include <time.h>

#define HEAPS 1
#define WORK_MS 5   /* of the processor's time: less leaves little behind */
#define REST_PART 8 /* worked for less than this part of the time between two looks: at rest */

void heap_setup(void)
{
    (void)mallopt(M_ARENA_MAX, HEAPS);
}

void heap_give_back(void)
{
    (void)malloc_trim(0);
}

/* Time of the processor that this process has used. */
static int64_t worked_ns(void)
{
    struct timespec t = {0};
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * NS_PER_S + t.tv_nsec;
}

bool heap_watch_look(struct heap_watch *w)
{
    int64_t now = clock_now_ns(), worked = worked_ns();
    bool rests = worked - w->worked_ns < (now - w->look_ns) / REST_PART;
    w->look_ns = now;
    w->worked_ns = worked;
    return rests && worked - w->given_ns >= WORK_MS * NS_PER_MS;
}

void heap_watch_give(struct heap_watch *w)
{
    heap_give_back();
    w->given_ns = worked_ns();
}
