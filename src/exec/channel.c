/* channel.c - packets and memfds. */
#include "exec/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

bool packet_init(struct packet *p, struct err *e)
{
    *p = (struct packet){.data = aligned_alloc(MESSAGE_ALIGN, MESSAGE_MAX)};
    return p->data || err_set(e, ERR_MEMORY, "message: no memory");
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

static bool write_at(int fd, const void *data, size_t size, uint64_t offset, struct err *e)
{
    const char *from = data;
    while (size > 0) {
        ssize_t n = pwrite(fd, from, size, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_errno(e, ERR_MEMORY, n < 0 ? errno : ENOSPC, "tensors: memfd");
        from += n;
        size -= (size_t)n;
        offset += (uint64_t)n;
    }
    return true;
}

static bool fill_memfd(const struct message *m, const struct tensor *tensors, int *ret,
                       struct err *e)
{
    int fd = memfd_create("tensors", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return err_errno(e, ERR_MEMORY, errno, "tensors: memfd");
    bool ok = ftruncate(fd, (off_t)m->data_bytes) == 0 ||
              err_errno(e, ERR_MEMORY, errno, "tensors: %llu bytes",
                        (unsigned long long)m->data_bytes);
    for (int i = 0; ok && i < m->tensor_count; i++)
        ok = write_at(fd, tensors[i].data, tensors[i].bytes, m->tensors[i].offset, e);
    if (ok && fcntl(fd, F_ADD_SEALS, SEALS | F_SEAL_SEAL) != 0)
        ok = err_errno(e, ERR_INTERNAL, errno, "tensors: seal");
    if (ok)
        *ret = fd;
    else
        (void)close(fd);
    return ok;
}

bool channel_send_tensors(int fd, struct packet *p, const struct message *m,
                          const struct tensor *tensors, struct err *e)
{
    const void *sources[EXEC_PORTS_MAX];
    int memfd = -1;
    for (int i = 0; i < m->tensor_count; i++)
        sources[i] = tensors[i].data;
    if (m->tensor_count > 0 && !m->inline_data && !fill_memfd(m, tensors, &memfd, e))
        return false;
    bool ok = channel_send(fd, p, m, sources, memfd, e);
    if (memfd >= 0)
        (void)close(memfd);
    return ok;
}

struct mapping {
    void *data;
    size_t size;
};

static void unmap(void *arg)
{
    struct mapping *m = arg;
    (void)munmap(m->data, m->size);
    free(m);
}

/* The memfd must be as long as the tensors need and sealed: then nobody can pull the pages away or
 * change them while they are read. */
static bool map_memfd(int fd, uint64_t bytes, struct mem **ret, struct err *e)
{
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & SEALS) != SEALS)
        return err_set(e, ERR_INVALID, "tensors: the memfd is not sealed");
    if (fstat(fd, &st) != 0 || (uint64_t)st.st_size != bytes)
        return err_set(e, ERR_INVALID, "tensors: a memfd of %lld bytes, should be %llu",
                       (long long)st.st_size, (unsigned long long)bytes);
    struct mapping *m = malloc(sizeof(*m));
    if (!m)
        return err_set(e, ERR_MEMORY, "tensors: no memory");
    m->size = (size_t)bytes;
    m->data = mmap(NULL, m->size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    if (m->data == MAP_FAILED) {
        free(m);
        return err_errno(e, ERR_MEMORY, errno, "tensors: map");
    }
    *ret = mem_wrap(m->data, m->size, unmap, m);
    if (!*ret) {
        unmap(m);
        return err_set(e, ERR_MEMORY, "tensors: no memory");
    }
    return true;
}

static void view_tensors(const struct message *m, struct tensor *ret)
{
    for (int i = 0; i < m->tensor_count; i++) {
        const struct message_tensor *t = &m->tensors[i];
        ret[i] = (struct tensor){.dtype = t->dtype,
                                 .shape = t->shape,
                                 .data = (void *)(uintptr_t)(m->data + t->offset),
                                 .bytes = (size_t)t->bytes};
    }
}

bool channel_take_tensors(struct packet *p, const struct message *m, bool hold,
                          struct tensor *ret, struct err *e)
{
    struct mem *mem = NULL;
    bool ok = true;
    if (m->tensor_count == 0)
        return true;
    if (m->inline_data && !hold) {
        view_tensors(m, ret);
        return true;
    }
    if (m->inline_data) {
        mem = mem_new((size_t)m->data_bytes);
        if (!mem)
            return err_set(e, ERR_MEMORY, "tensors: no memory");
        if (m->data_bytes > 0)
            memcpy(mem_data(mem), m->data, (size_t)m->data_bytes);
    } else if (p->fd_count != 1) {
        return err_set(e, ERR_INVALID, "tensors: %d descriptors, should be 1", p->fd_count);
    } else if (!map_memfd(p->fds[0], m->data_bytes, &mem, e)) {
        return false;
    }
    for (int i = 0; ok && i < m->tensor_count; i++) {
        const struct message_tensor *t = &m->tensors[i];
        ok = tensor_over(t->dtype, &t->shape, mem, (size_t)t->offset, (size_t)t->bytes, &ret[i], e);
        if (!ok)
            for (int k = 0; k < i; k++)
                tensor_clear(&ret[k]);
    }
    mem_unref(mem);
    packet_close_fds(p);
    return ok;
}
