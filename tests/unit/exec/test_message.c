/* test_message.c - the runner's messages: there and back, and refused when they are broken. */
#include "lib/cmocka.h"

#include "base/num.h"
#include "exec/channel.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static struct message out, in;
static uint8_t packet[MESSAGE_MAX] __attribute__((aligned(MESSAGE_ALIGN)));

static size_t encode(const void *const *sources)
{
    size_t size = 0;
    struct err e = {0};
    if (!message_encode(&out, sources, packet, &size, &e))
        fail_msg("%s", e.text);
    return size;
}

static void start_run(void)
{
    message_start(&out, MSG_RUN);
    out.id = 77;
    out.numbers[0] = 5;
    struct shape a = {.rank = 2, .dims = {2, 3}}, b = {.rank = 0};
    assert_true(message_add_tensor(&out, DT_F32, &a, NULL));
    assert_true(message_add_tensor(&out, DT_I64, &b, NULL));
}

static void texts_go_there_and_back(void **state)
{
    (void)state;
    struct err e = {0};
    message_start(&out, MSG_HELLO);
    out.texts[0] = "/a/b";
    out.texts[2] = "c";
    out.numbers[1] = 3;
    size_t size = encode(NULL);
    assert_true(message_decode(packet, size, &in, &e));
    assert_int_equal(in.kind, MSG_HELLO);
    assert_string_equal(in.texts[0], "/a/b");
    assert_string_equal(in.texts[1], "");
    assert_string_equal(in.texts[2], "c");
    assert_int_equal(in.numbers[1], 3);
    message_clear(&in);
}

static void ports_go_there_and_back(void **state)
{
    (void)state;
    struct err e = {0};
    message_start(&out, MSG_LOADED);
    assert_true(info_alloc(&out.info, 1, 1, &e));
    out.info.inputs[0] =
        (struct port){.name = "pixels", .dtype = DT_F16, .shape = {.rank = 2, .dims = {-1, 7}}};
    out.info.outputs[0] = (struct port){.name = "y", .dtype = DT_BOOL};
    memcpy(out.info.dims[0].name[0], "batch", 6);
    size_t size = encode(NULL);
    assert_true(message_decode(packet, size, &in, &e));
    assert_string_equal(in.info.inputs[0].name, "pixels");
    assert_int_equal(in.info.inputs[0].dtype, DT_F16);
    assert_int_equal(in.info.inputs[0].shape.dims[0], -1);
    assert_string_equal(in.info.dims[0].name[0], "batch");
    assert_string_equal(in.info.outputs[0].name, "y");
    message_clear(&in);
    message_clear(&out);
}

static void tensors_go_there_and_back(void **state)
{
    (void)state;
    struct err e = {0};
    const float a[6] = {1, 2, 3, 4, 5, 6};
    const int64_t b = -9;
    const void *sources[2] = {a, &b};
    start_run();
    size_t size = encode(sources);
    assert_true(message_decode(packet, size, &in, &e));
    assert_int_equal(in.id, 77);
    assert_int_equal(in.tensor_count, 2);
    assert_int_equal(in.tensors[1].offset, MESSAGE_ALIGN);
    assert_memory_equal(in.data, a, sizeof(a));
    assert_memory_equal(in.data + in.tensors[1].offset, &b, sizeof(b));
    assert_int_equal((uintptr_t)in.data % MESSAGE_ALIGN, 0);
    message_clear(&in);
}

static void every_shorter_packet_is_refused(void **state)
{
    (void)state;
    const float a[6] = {0};
    const int64_t b = 0;
    const void *sources[2] = {a, &b};
    struct err e = {0};
    start_run();
    size_t size = encode(sources);
    for (size_t i = 0; i < size; i++)
        assert_false(message_decode(packet, i, &in, &e));
    assert_false(message_decode(packet, size + 1, &in, &e));
    assert_true(message_decode(packet, size, &in, &e));
}

/* Each byte of the packet's fields changed to each of some values: never a crash (the sanitizers
 * look), and a message that is taken keeps within its limits. */
static void changed_bytes_do_no_harm(void **state)
{
    (void)state;
    static const uint8_t values[] = {0, 1, 2, 0x7f, 0x80, 0xff};
    const float a[6] = {0};
    const int64_t b = 0;
    const void *sources[2] = {a, &b};
    start_run();
    size_t size = encode(sources);
    uint8_t *copy = malloc(size);
    assert_non_null(copy);
    for (size_t i = 0; i < size; i++)
        for (size_t k = 0; k < ARRAY_LEN(values); k++) {
            memcpy(copy, packet, size);
            copy[i] = values[k];
            if (!message_decode(copy, size, &in, NULL))
                continue;
            assert_true(in.tensor_count <= EXEC_PORTS_MAX && in.data_bytes <= MESSAGE_BYTES_MAX);
            message_clear(&in);
        }
    free(copy);
}

static void too_much_is_refused(void **state)
{
    (void)state;
    struct shape huge = {.rank = 1, .dims = {INT64_C(1) << 62}}, one = {.rank = 0};
    struct err e = {0};
    message_start(&out, MSG_RUN);
    assert_false(message_add_tensor(&out, DT_F32, &huge, &e));
    for (int i = 0; i < EXEC_PORTS_MAX; i++)
        assert_true(message_add_tensor(&out, DT_U8, &one, &e));
    assert_false(message_add_tensor(&out, DT_U8, &one, &e));
    char *text = calloc(1, MESSAGE_TEXT_MAX + 2);
    assert_non_null(text);
    memset(text, 'x', MESSAGE_TEXT_MAX + 1);
    size_t size;
    message_start(&out, MSG_FAIL);
    out.texts[0] = text;
    assert_false(message_encode(&out, NULL, packet, &size, &e));
    free(text);
}

/* ---- memfds ---------------------------------------------------------------------------------- */

struct ends {
    int fd[2];
    struct packet p[2];
};

static void open_ends(struct ends *s)
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s->fd), 0);
    assert_true(packet_init(&s->p[0], NULL) && packet_init(&s->p[1], NULL));
}

static void close_ends(struct ends *s)
{
    for (int i = 0; i < 2; i++) {
        (void)close(s->fd[i]);
        packet_clear(&s->p[i]);
    }
}

static void send_big(struct ends *s, int64_t bytes, uint8_t fill)
{
    struct err e = {0};
    struct tensor t;
    struct shape shape = {.rank = 1, .dims = {bytes}};
    message_start(&out, MSG_RESULT);
    assert_true(message_add_tensor(&out, DT_U8, &shape, &e));
    assert_true(tensor_new(DT_U8, &shape, &t, &e));
    memset(t.data, fill, t.bytes);
    if (!channel_send_tensors(s->fd[0], &s->p[0], &out, &t, &e))
        fail_msg("%s", e.text);
    tensor_clear(&t);
}

static void big_tensors_go_by_memfd(void **state)
{
    (void)state;
    static const int64_t sizes[] = {100000, 100000, 90000, 3000000, 40000000, 70000, 40000000};
    struct ends s;
    struct err e = {0};
    open_ends(&s);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct tensor got = {0};
        uint8_t fill = (uint8_t)(i + 1);
        send_big(&s, sizes[i], fill);
        assert_true(channel_receive(s.fd[1], &s.p[1], &in, &e));
        if (i == 1)
            assert_int_equal(s.p[1].fd_count, 0); /* the first one's memfd again */
        if (!channel_take_tensors(&s.p[1], &in, i % 2 == 0, &got, &e))
            fail_msg("%s", e.text);
        assert_int_equal(got.bytes, sizes[i]);
        assert_int_equal(((uint8_t *)got.data)[0], fill);
        assert_int_equal(((uint8_t *)got.data)[got.bytes - 1], fill);
        tensor_clear(&got);
        channel_done(&s.p[1]);
    }
    close_ends(&s);
}

/* Replaces the descriptor of a big message by fd (or none) and expects it to be refused. */
static void expect_refused(int fd)
{
    struct ends s;
    struct tensor got = {0};
    struct err e = {0};
    open_ends(&s);
    send_big(&s, 100000, 1);
    assert_true(channel_receive(s.fd[1], &s.p[1], &in, &e));
    packet_close_fds(&s.p[1]);
    if (fd >= 0) {
        s.p[1].fds[0] = fd;
        s.p[1].fd_count = 1;
    }
    assert_false(channel_take_tensors(&s.p[1], &in, true, &got, &e));
    assert_int_equal(e.code, ERR_INVALID);
    close_ends(&s);
}

static void wrong_memfds_are_refused(void **state)
{
    (void)state;
    expect_refused(-1);
    int loose = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_int_equal(ftruncate(loose, 100000), 0);
    expect_refused(loose); /* could be cut short while it is read */
    int small = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_int_equal(ftruncate(small, 99999), 0);
    assert_int_equal(fcntl(small, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE),
                     0);
    expect_refused(small);
    expect_refused(open("/dev/zero", O_RDONLY | O_CLOEXEC));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_go_there_and_back),
        cmocka_unit_test(ports_go_there_and_back),
        cmocka_unit_test(tensors_go_there_and_back),
        cmocka_unit_test(every_shorter_packet_is_refused),
        cmocka_unit_test(changed_bytes_do_no_harm),
        cmocka_unit_test(too_much_is_refused),
        cmocka_unit_test(big_tensors_go_by_memfd),
        cmocka_unit_test(wrong_memfds_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
