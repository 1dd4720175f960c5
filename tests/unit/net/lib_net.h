/* lib_net.h - what the tests of this folder share: a server with small routes, raw sockets. */
#pragma once
#include "base/err.h"
#include "net/client.h"
#include "net/server.h"

#include <stdatomic.h>
#include <stdbool.h>

struct cancel;

/* State that the handlers of the test routes touch. */
struct fixture {
    struct net_server *server;
    struct net_client *client;
    char base[64];        /* "http://127.0.0.1:PORT" */
    atomic_int handled;   /* handlers begun */
    atomic_int waiting;   /* handlers in /wait */
    atomic_int cancelled; /* of those, ended by their token */
    atomic_int released;  /* release functions called */
    struct cancel *open;  /* fired: lets /wait return */
    struct net_body kept; /* by /keep */
};

/* GET /echo/{name}?q=…   POST /echo   POST /parts   POST /keep   GET /wait   GET /ping (control)
 * GET /stream   GET /pause   GET /endless   GET /broken   GET /none   GET /twice   POST /json (only JSON)
 * POST /sized (needs a length)   GET /rest/{path...}   GET /open (anonymous) */
extern const struct net_route fixture_routes[];
extern const size_t fixture_route_count;

#define FIXTURE_BODY_MAX (4u << 20)

/* options may be NULL; its groups are set here. */
void fixture_start(struct fixture *f, const struct net_server_options *options);
void fixture_stop(struct fixture *f);

/* A call that must succeed; path is put behind the base. */
struct net_answer fixture_call(struct fixture *f, const char *method, const char *path,
                               const void *body, size_t size);

/* Spins (with yields) until *value >= want; fails after ten seconds. */
void await(const atomic_int *value, int want);

/* A connected socket with a receive limit of ten seconds. */
int raw_connect(uint16_t port);
void raw_send(int fd, const char *text);
/* Reads until the text occurs or the connection ends; ret is terminated. Returns bytes. */
size_t raw_read_until(int fd, const char *text, char *ret, size_t max);
/* Sends, reads to the end or to "\r\n\r\n" plus what came; the status, 0 if there was no answer. */
int raw_status(uint16_t port, const char *request);
