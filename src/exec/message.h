/* message.h - what a process and its runner say to one another, as bytes and back.
 *
 * Sockets are SEQPACKET, so one message is one packet.  Both sides decode with the same checks: the
 * runner may have been taken over by a hostile model, and then its answers are hostile too.
 *
 *   control socket   HELLO -> READY; LOAD -> LOADED; UNLOAD, PREPARE -> DONE; or FAIL
 *   lane sockets     RUN -> RESULT or FAIL; one call at a time on each
 *   signal socket    CANCEL, without an answer
 *
 *   u32 magic | u8 kind, texts, inputs/4.. (see struct head in message.c)
 *   texts | ports | tensors (type, shape) | zeros up to a multiple of 64 | data
 *
 * Tensors lie one after another at multiples of 64, in the packet's data, or, when they are more
 * than EXEC_INLINE_MAX in all, in a sealed memfd that came with this packet or an earlier one.
 *
 * Threads: none of its own. */
#pragma once
#include "exec/backend.h"

#define MESSAGE_MAX ((size_t)184 << 10) /* below the kernel's default for socket buffers */
#define MESSAGE_ALIGN 64
#define MESSAGE_TEXTS_MAX 4
#define MESSAGE_TEXT_MAX 4096
#define MESSAGE_NUMBERS 3
#define MESSAGE_FDS_MAX (EXEC_LANES_MAX + 1)
#define MESSAGE_BYTES_MAX ((uint64_t)8 << 30) /* all tensors of a call */

/* kind, texts, numbers are what; has ports, has tensors */
#define MESSAGE_KINDS(X)                                                                           \
    X(HELLO, 4, false, false)  /* runtime, modules_dir, prepared_dir, write_dir; threads, lanes */ \
    X(READY, 1, false, false)  /* version; landlock, seccomp */                                    \
    X(LOAD, 1, false, false)   /* folder; module number, level */                                  \
    X(LOADED, 0, true, false)  /* load time in microseconds */                                     \
    X(UNLOAD, 0, false, false) /* module number */                                                 \
    X(PREPARE, 2, false, false) /* folder, to */                                                   \
    X(DONE, 0, false, false)                                                                       \
    X(RUN, 0, false, true) /* module number */                                                     \
    X(RESULT, 0, false, true)                                                                      \
    X(FAIL, 1, false, false)   /* error text; code */                                              \
    X(CANCEL, 0, false, false) /* lane; id is that of the run */

#define MESSAGE_ENUM(name, texts, ports, tensors) MSG_##name,
enum message_kind { MSG_NONE, MESSAGE_KINDS(MESSAGE_ENUM) MSG_COUNT };
#undef MESSAGE_ENUM

struct message_tensor {
    enum dtype dtype;
    struct shape shape;
    uint64_t offset, bytes; /* within the data */
};

/* A decoded message borrows texts and data from the packet; info is owned (message_clear). */
struct message {
    enum message_kind kind;
    uint64_t id;
    uint32_t numbers[MESSAGE_NUMBERS];
    const char *texts[MESSAGE_TEXTS_MAX]; /* as many as the kind has */
    struct module_info info;              /* kinds with ports */
    int tensor_count;
    uint64_t data_bytes; /* of all tensors with their gaps */
    bool inline_data;    /* else they are in a memfd (or there are none) */
    const uint8_t *data; /* inline data */
    struct message_tensor tensors[EXEC_PORTS_MAX];
};

/* Only the members outside the arrays are reset: the struct is large. */
void message_start(struct message *m, enum message_kind kind);
void message_clear(struct message *m);

/* Adds a tensor's type and place; ERR_TOO_LARGE over the limits. */
bool message_add_tensor(struct message *m, enum dtype dtype, const struct shape *shape,
                        struct err *e);

/* sources: data of each tensor, used when inline.  Writes to packet (MESSAGE_MAX bytes). */
bool message_encode(const struct message *m, const void *const *sources, uint8_t *packet,
                    size_t *ret_size, struct err *e);

/* packet: aligned to MESSAGE_ALIGN if the tensors are to be so. */
bool message_decode(const uint8_t *packet, size_t size, struct message *ret, struct err *e);
