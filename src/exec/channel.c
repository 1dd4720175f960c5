/* channel.c - packets and memfds.
 *
 * New pages cost more than copying into old ones, so each direction of a lane keeps its memfd: the
 * sender maps it for writing, the receiver for reading, and its descriptor travels once.  Those over
 * REGION_KEEP are used for one message. */
#include "exec/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define REGION_MIN ((size_t)256 << 10)
#define REGION_KEEP ((size_t)16 << 20) /* per lane and direction */

bool packet_init(struct packet *p, struct err *e)
{
    *p = (struct packet){.data = aligned_alloc(MESSAGE_ALIGN, MESSAGE_MAX)};
    return p->data || err_set(e, ERR_MEMORY, "message: no memory");
}

static void region_drop(struct region *r)
{
    if (r->data)
        (void)munmap(r->data, r->size);
    *r = (struct region){0};
}

void packet_close_fds(struct packet *p)
{
    for (int i = 0; i < p->fd_count; i++)
        if (p->fds[i] >= 0)
            (void)close(p->fds[i]);
    p->fd_count = 0;
}

void packet_clear(struct packet *p)
{
    packet_close_fds(p);
    region_drop(&p->sent);
    region_drop(&p->received);
    free(p->data);
    *p = (struct packet){0};
}

static bool gone(int number)
{
    return number == EPIPE || number == ECONNRESET || number == ENOTCONN || number == ECONNREFUSED;
}

bool packet_send(int fd, const struct packet *p, struct err *e)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * MESSAGE_FDS_MAX)];
    } control;
    struct iovec part = {.iov_base = p->data, .iov_len = p->size};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};
    if (p->fd_count > 0) {
        size_t bytes = sizeof(int) * (size_t)p->fd_count;
        m.msg_control = control.bytes;
        m.msg_controllen = CMSG_SPACE(bytes);
        memset(control.bytes, 0, CMSG_SPACE(bytes));
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(bytes);
        memcpy(CMSG_DATA(c), p->fds, bytes);
    }
    for (;;) {
        ssize_t n = sendmsg(fd, &m, MSG_NOSIGNAL);
        if (n >= 0)
            return true;
        if (errno == EINTR)
            continue;
        if (gone(errno))
            return err_set(e, ERR_GONE, "runner: is not there any more");
        return err_errno(e, ERR_INTERNAL, errno, "runner: send of %zu bytes", p->size);
    }
}

/* Takes all descriptors that came, so that none leaks whatever was sent. */
static void take_fds(struct msghdr *m, struct packet *p)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count && p->fd_count < MESSAGE_FDS_MAX; i++)
            memcpy(&p->fds[p->fd_count++], CMSG_DATA(c) + i * sizeof(int), sizeof(int));
    }
}

bool packet_receive(int fd, struct packet *p, struct err *e)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * MESSAGE_FDS_MAX)];
    } control;
    struct iovec part = {.iov_base = p->data, .iov_len = MESSAGE_MAX};
    struct msghdr m = {.msg_iov = &part,
                       .msg_iovlen = 1,
                       .msg_control = control.bytes,
                       .msg_controllen = sizeof(control.bytes)};
    ssize_t n;
    packet_close_fds(p);
    do
        n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return err_set(e, ERR_TIMEOUT, "runner: no answer yet");
    if (n == 0 || (n < 0 && gone(errno)))
        return err_set(e, ERR_GONE, "runner: is not there any more");
    if (n < 0)
        return err_errno(e, ERR_INTERNAL, errno, "runner: receive");
    take_fds(&m, p);
    p->size = (size_t)n;
    if ((m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0)
        return true;
    packet_close_fds(p);
    return err_set(e, ERR_INVALID, "runner: a packet over the limit of %zu bytes", MESSAGE_MAX);
}

bool channel_send(int fd, struct packet *p, const struct message *m, const void *const *sources,
                  int with_fd, struct err *e)
{
    packet_close_fds(p);
    if (!message_encode(m, sources, p->data, &p->size, e))
        return false;
    if (with_fd >= 0) {
        p->fds[0] = with_fd;
        p->fd_count = 1;
    }
    bool ok = packet_send(fd, p, e);
    p->fd_count = 0; /* they stay the caller's */
    return ok;
}

bool channel_receive(int fd, struct packet *p, struct message *m, struct err *e)
{
    if (!packet_receive(fd, p, e))
        return false;
    if (message_decode(p->data, p->size, m, e))
        return true;
    packet_close_fds(p);
    return false;
}

/* ---- tensors --------------------------------------------------------------------------------- */

/* Not F_SEAL_WRITE: it makes the kernel look for users of every page, which takes longer than most
 * runs, and fails now and then.  Who must not trust the sender copies before looking. */
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE)

/* A new memfd, mapped and sealed: from then on it can be written through this mapping alone. */
static bool region_make(struct region *r, uint64_t bytes, int *ret_fd, struct err *e)
{
    size_t size = REGION_MIN;
    while (size < bytes && size < REGION_KEEP)
        size *= 2;
    if (size < bytes)
        size = (size_t)bytes;
    int fd = memfd_create("tensors", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, (off_t)size) != 0) {
        err_errno(e, ERR_MEMORY, errno, "tensors: %zu bytes", size);
        if (fd >= 0)
            (void)close(fd);
        return false;
    }
    void *data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED || fcntl(fd, F_ADD_SEALS, SEALS | F_SEAL_SEAL) != 0) {
        err_errno(e, ERR_MEMORY, errno, "tensors: %zu bytes", size);
        if (data != MAP_FAILED)
            (void)munmap(data, size);
        (void)close(fd);
        return false;
    }
    region_drop(r);
    *r = (struct region){.data = data, .size = size};
    *ret_fd = fd;
    return true;
}

bool channel_send_tensors(int fd, struct packet *p, const struct message *m,
                          const struct tensor *tensors, struct err *e)
{
    const void *sources[EXEC_PORTS_MAX];
    int memfd = -1;
    bool shared = m->tensor_count > 0 && !m->inline_data;
    if (shared && p->sent.size < m->data_bytes && !region_make(&p->sent, m->data_bytes, &memfd, e))
        return false;
    for (int i = 0; i < m->tensor_count; i++) {
        sources[i] = tensors[i].data;
        if (shared && tensors[i].bytes > 0)
            memcpy(p->sent.data + m->tensors[i].offset, tensors[i].data, tensors[i].bytes);
    }
    bool ok = channel_send(fd, p, m, sources, memfd, e);
    if (memfd >= 0)
        (void)close(memfd);
    if (!ok || p->sent.size > REGION_KEEP)
        region_drop(&p->sent);
    return ok;
}

/* The sender's new memfd instead of the last one; sealed, so nobody can pull the pages away. */
static bool region_take(struct region *r, int fd, struct err *e)
{
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & SEALS) != SEALS)
        return err_set(e, ERR_INVALID, "tensors: the memfd is not sealed");
    if (fstat(fd, &st) != 0 || st.st_size <= 0 || (uint64_t)st.st_size > MESSAGE_BYTES_MAX)
        return err_set(e, ERR_INVALID, "tensors: a memfd of %lld bytes, at most %llu",
                       (long long)st.st_size, (unsigned long long)MESSAGE_BYTES_MAX);
    void *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED)
        return err_errno(e, ERR_MEMORY, errno, "tensors: map of %lld bytes", (long long)st.st_size);
    region_drop(r);
    *r = (struct region){.data = data, .size = (size_t)st.st_size};
    return true;
}

static bool find_data(struct packet *p, const struct message *m, const uint8_t **ret, struct err *e)
{
    *ret = m->data;
    if (m->inline_data)
        return true;
    if (p->fd_count > 1)
        return err_set(e, ERR_INVALID, "tensors: %d descriptors, at most 1", p->fd_count);
    if (p->fd_count == 1 && !region_take(&p->received, p->fds[0], e))
        return false;
    packet_close_fds(p);
    if (p->received.size < m->data_bytes)
        return err_set(e, ERR_INVALID, "tensors: %llu bytes in a memfd of %zu",
                       (unsigned long long)m->data_bytes, p->received.size);
    *ret = p->received.data;
    return true;
}

static void view_tensors(const struct message *m, const uint8_t *data, struct tensor *ret)
{
    for (int i = 0; i < m->tensor_count; i++) {
        const struct message_tensor *t = &m->tensors[i];
        ret[i] = (struct tensor){.dtype = t->dtype,
                                 .shape = t->shape,
                                 .data = (void *)(uintptr_t)(data + t->offset),
                                 .bytes = (size_t)t->bytes};
    }
}

static bool copy_tensors(const struct message *m, const uint8_t *data, struct tensor *ret,
                         struct err *e)
{
    size_t bytes = (size_t)m->data_bytes;
    void *copy = malloc(bytes ? bytes : 1);
    struct mem *mem = copy ? mem_wrap(copy, bytes, free, copy) : NULL;
    if (!mem) {
        free(copy);
        return err_set(e, ERR_MEMORY, "tensors: no memory for %zu bytes", bytes);
    }
    if (bytes > 0)
        memcpy(copy, data, bytes);
    bool ok = true;
    for (int i = 0; ok && i < m->tensor_count; i++) {
        const struct message_tensor *t = &m->tensors[i];
        ok = tensor_over(t->dtype, &t->shape, mem, (size_t)t->offset, (size_t)t->bytes, &ret[i], e);
        for (int k = 0; !ok && k < i; k++)
            tensor_clear(&ret[k]);
    }
    mem_unref(mem);
    return ok;
}

bool channel_take_tensors(struct packet *p, const struct message *m, bool hold, struct tensor *ret,
                          struct err *e)
{
    const uint8_t *data;
    if (m->tensor_count == 0)
        return true;
    if (!find_data(p, m, &data, e))
        return false;
    if (!hold) {
        view_tensors(m, data, ret);
        return true;
    }
    bool ok = copy_tensors(m, data, ret, e);
    channel_done(p);
    return ok;
}

void packet_forget(struct packet *p)
{
    region_drop(&p->sent);
}

void channel_done(struct packet *p)
{
    if (p->received.size > REGION_KEEP)
        region_drop(&p->received);
}
