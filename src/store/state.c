/* state.c - rows in SQLite. */
#include "store/state.h"

#include "base/sync.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

struct state {
    sqlite3 *db;
    pthread_mutex_t lock; /* recursive: rows are also changed between begin and end */
};

#define STATE_NAME(id, name) [id] = name,
static const char *const names[] = {STATE_KINDS(STATE_NAME)};
#undef STATE_NAME

static bool failed(struct state *s, const char *what, struct err *e)
{
    return err_set(e, ERR_IO, "state.db: %s: %s", what,
                   s->db ? sqlite3_errmsg(s->db) : "no memory");
}

static bool run(struct state *s, const char *sql, struct err *e)
{
    return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK || failed(s, sql, e);
}

bool state_open(const char *path, struct state **ret, struct err *e)
{
    struct state *s = calloc(1, sizeof(*s));
    if (!s)
        return err_set(e, ERR_MEMORY, "state.db: no memory");
    pthread_mutexattr_t attr;
    (void)pthread_mutexattr_init(&attr);
    (void)pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
    (void)pthread_mutex_init(&s->lock, &attr);
    (void)pthread_mutexattr_destroy(&attr);
    int flags =
        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX | SQLITE_OPEN_NOFOLLOW;
    bool ok = sqlite3_open_v2(path, &s->db, flags, NULL) == SQLITE_OK || failed(s, path, e);
    if (ok) {
        (void)sqlite3_busy_timeout(s->db, 5000);
        ok = run(s, "PRAGMA journal_mode=WAL", e) && run(s, "PRAGMA synchronous=FULL", e) &&
             run(s,
                 "CREATE TABLE IF NOT EXISTS rows (kind TEXT NOT NULL, key TEXT NOT NULL, "
                 "value TEXT NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID",
                 e);
    }
    if (!ok) {
        state_close(s);
        return false;
    }
    *ret = s;
    return true;
}

void state_close(struct state *s)
{
    if (!s)
        return;
    (void)sqlite3_close(s->db);
    (void)pthread_mutex_destroy(&s->lock);
    free(s);
}

static sqlite3_stmt *prepare(struct state *s, const char *sql, enum state_kind kind,
                             const char *key, struct err *e)
{
    sqlite3_stmt *q = NULL;
    if (sqlite3_prepare_v2(s->db, sql, -1, &q, NULL) != SQLITE_OK ||
        sqlite3_bind_text(q, 1, names[kind], -1, SQLITE_STATIC) != SQLITE_OK ||
        (key && sqlite3_bind_text(q, 2, key, -1, SQLITE_TRANSIENT) != SQLITE_OK)) {
        failed(s, sql, e);
        (void)sqlite3_finalize(q);
        return NULL;
    }
    return q;
}

static bool step_done(struct state *s, sqlite3_stmt *q, const char *what, struct err *e)
{
    bool ok = sqlite3_step(q) == SQLITE_DONE || failed(s, what, e);
    (void)sqlite3_finalize(q);
    return ok;
}

bool state_put(struct state *s, enum state_kind kind, const char *key, const json_t *value,
               struct err *e)
{
    char *text = json_text(value);
    if (!text || strlen(text) > STATE_ROW_BYTES_MAX) {
        free(text);
        return err_set(e, text ? ERR_TOO_LARGE : ERR_MEMORY, "state.db: %s '%.80s': limit %u bytes",
                       names[kind], key, STATE_ROW_BYTES_MAX);
    }
    (void)pthread_mutex_lock(&s->lock);
    sqlite3_stmt *q = prepare(s, "INSERT OR REPLACE INTO rows VALUES (?1, ?2, ?3)", kind, key, e);
    bool ok = q && (sqlite3_bind_text(q, 3, text, -1, SQLITE_TRANSIENT) == SQLITE_OK ||
                    failed(s, key, e));
    if (ok)
        ok = step_done(s, q, "put", e);
    else
        (void)sqlite3_finalize(q);
    (void)pthread_mutex_unlock(&s->lock);
    free(text);
    return ok;
}

static json_t *column_json(sqlite3_stmt *q, int column, struct err *e)
{
    return json_parse("state.db", (const char *)sqlite3_column_text(q, column),
                      (size_t)sqlite3_column_bytes(q, column), e);
}

bool state_get(struct state *s, enum state_kind kind, const char *key, json_t **ret, struct err *e)
{
    *ret = NULL;
    (void)pthread_mutex_lock(&s->lock);
    sqlite3_stmt *q =
        prepare(s, "SELECT value FROM rows WHERE kind = ?1 AND key = ?2", kind, key, e);
    bool ok = q != NULL;
    if (ok) {
        int r = sqlite3_step(q);
        if (r == SQLITE_ROW)
            ok = (*ret = column_json(q, 0, e)) != NULL;
        else if (r != SQLITE_DONE)
            ok = failed(s, "get", e);
    }
    (void)sqlite3_finalize(q);
    (void)pthread_mutex_unlock(&s->lock);
    return ok;
}

bool state_remove(struct state *s, enum state_kind kind, const char *key, struct err *e)
{
    (void)pthread_mutex_lock(&s->lock);
    sqlite3_stmt *q = prepare(s, "DELETE FROM rows WHERE kind = ?1 AND key = ?2", kind, key, e);
    bool ok = q && step_done(s, q, "remove", e);
    (void)pthread_mutex_unlock(&s->lock);
    return ok;
}

bool state_list(struct state *s, enum state_kind kind, json_t **ret, struct err *e)
{
    (void)pthread_mutex_lock(&s->lock);
    sqlite3_stmt *q =
        prepare(s, "SELECT key, value FROM rows WHERE kind = ?1 ORDER BY key", kind, NULL, e);
    json_t *all = json_object();
    bool ok = q != NULL;
    int r = SQLITE_DONE;
    while (ok && (r = sqlite3_step(q)) == SQLITE_ROW) {
        json_t *value = column_json(q, 1, e);
        ok = value && json_object_size(all) < STATE_ROWS_MAX;
        if (ok)
            json_object_set_new(all, (const char *)sqlite3_column_text(q, 0), value);
        else
            json_decref(value);
    }
    if (ok && r != SQLITE_DONE)
        ok = failed(s, "list", e);
    (void)sqlite3_finalize(q);
    (void)pthread_mutex_unlock(&s->lock);
    if (!ok) {
        json_decref(all);
        return false;
    }
    *ret = all;
    return true;
}

bool state_begin(struct state *s, struct err *e)
{
    (void)pthread_mutex_lock(&s->lock);
    if (run(s, "BEGIN IMMEDIATE", e))
        return true;
    (void)pthread_mutex_unlock(&s->lock);
    return false;
}

bool state_end(struct state *s, bool commit, struct err *e)
{
    bool ok = run(s, commit ? "COMMIT" : "ROLLBACK", e);
    if (!ok && commit)
        (void)run(s, "ROLLBACK", NULL);
    (void)pthread_mutex_unlock(&s->lock);
    return ok;
}
