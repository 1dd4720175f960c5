/* heap.h - what this process frees goes back to the system.
 *
 * glibc gives each thread a heap of its own, and of those the free memory at the top never goes back
 * (malloc_trim() looks at the rest only): tens of MiB in a process of many short-lived threads.  With
 * one heap for all it does.  Small blocks come from each thread's own cache all the same. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/* One heap for all threads.  Before the first of them starts. */
void heap_setup(void);

/* Gives back what is free now.  Costs up to milliseconds, and the next user of the memory a page fault
 * for each 4 KiB: for moments of rest. */
void heap_give_back(void);

/* For a thread that looks now and then; zeroed at first, used by that thread alone. */
struct heap_watch {
    int64_t look_ns, worked_ns,
        given_ns; /* last look; the processor's time then, and when it gave */
};

/* Looks.  True: the process has worked since it last gave back, and has rested since the last look:
 * the moment to let go of what is kept for the next time, and then to give back. */
bool heap_watch_look(struct heap_watch *w);
void heap_watch_give(struct heap_watch *w);
