/* channel.h - packets with file descriptors over a SEQPACKET socket, and tensors in sealed memfds. */
#pragma once
#include "exec/message.h"

/* A mapped memfd. */
struct region {
    uint8_t *data;
    size_t size;
};

/* A packet being sent or received; one buffer serves both, in turn. */
struct packet {
    uint8_t *data; /* MESSAGE_MAX bytes, aligned to MESSAGE_ALIGN; owned */
    size_t size;
    int fds[MESSAGE_FDS_MAX]; /* received: owned until taken (set to -1) */
    int fd_count;
    struct region sent, received; /* memfds of tensors: ours, and the other end's */
};

bool packet_init(struct packet *p, struct err *e);
void packet_clear(struct packet *p); /* of a zeroed one: nothing */
void packet_close_fds(struct packet *p);

/* Sends p->data and the descriptors (which stay the caller's).  ERR_GONE: the other end is away. */
bool packet_send(int fd, const struct packet *p, struct err *e);

/* Waits for one.  ERR_GONE: the other end is away; ERR_TIMEOUT: the socket's receive timeout. */
bool packet_receive(int fd, struct packet *p, struct err *e);

/* Encodes and sends, with at most one descriptor (-1: none). */
bool channel_send(int fd, struct packet *p, const struct message *m, const void *const *sources,
                  int with_fd, struct err *e);
bool channel_receive(int fd, struct packet *p, struct message *m, struct err *e);

/* Sends a message with tensors (their places are in m already): inline, or in a new memfd. */
bool channel_send_tensors(int fd, struct packet *p, const struct message *m,
                          const struct tensor *tensors, struct err *e);

/* Makes the tensors of a received message.  hold = false, for a sender that is trusted: views,
 * valid until channel_done().  hold = true: copies, which the sender can't change any more. */
bool channel_take_tensors(struct packet *p, const struct message *m, bool hold, struct tensor *ret,
                          struct err *e);
void channel_done(struct packet *p);

/* The other end may not have taken our memfd: the next message brings a new one. */
void packet_forget(struct packet *p);
