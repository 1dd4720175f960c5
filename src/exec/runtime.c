/* runtime.c - finding and opening the runtime.
 *
 * One library, one environment per process.  It is never closed: its threads and static objects do
 * not survive that, and tensors that it allocated may live on in caches. */
#include "exec/runtime.h"

#include "base/file.h"
#include "base/num.h"
#include "base/parse.h"

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define UPWARDS_MAX 8 /* folders above the program that are looked at */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct runtime runtime; /* under lock until started, then only read */
static char *opened_path;
static bool started;

/* ---- finding --------------------------------------------------------------------------------- */

static const char *const names[] = {"libonnxruntime.so.1", "libonnxruntime.so"};

/* FOLDER/SUB/NAME if there is one; a real path, so that its folder can be opened to a sandbox. */
static char *look_in(const char *folder, const char *sub)
{
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char *path = text_format("%s/%s/%s", folder, sub, names[i]);
        char *real = path ? realpath(path, NULL) : NULL;
        free(path);
        if (real)
            return real;
    }
    return NULL;
}

static char *look_around_program(void)
{
    char folder[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", folder, sizeof(folder) - 1);
    if (n <= 0)
        return NULL;
    folder[n] = 0;
    char *found = NULL;
    for (int i = 0; i < UPWARDS_MAX && !found; i++) {
        char *slash = strrchr(folder, '/');
        if (!slash || slash == folder)
            break;
        *slash = 0;
        if (i == 0)
            found = look_in(folder, "../lib");
        if (!found)
            found = look_in(folder, ".deps/lib");
    }
    return found;
}

static char *look_in_system(void)
{
    static const char *const folders[] = {"local/lib", "lib", "lib/x86_64-linux-gnu",
                                          "lib/aarch64-linux-gnu"};
    char *found = NULL;
    for (size_t i = 0; i < ARRAY_LEN(folders) && !found; i++)
        found = look_in("/usr", folders[i]);
    return found;
}

bool runtime_find(const char *option, char **ret, struct err *e)
{
    const char *given = option && *option ? option : getenv("S2M3_RUNTIME");
    if (given && *given) {
        char *real = realpath(given, NULL);
        if (!real)
            return err_set(e, ERR_NOT_FOUND, "runtime '%s': no such file", given);
        *ret = real;
        return true;
    }
    char *found = look_around_program();
    if (!found)
        found = look_in_system();
    if (!found)
        return err_set(
            e, ERR_NOT_FOUND,
            "ONNX Runtime: no libonnxruntime.so in $S2M3_RUNTIME, ../lib of the program, "
            ".deps/lib of a folder above it, or the system's library folders");
    *ret = found;
    return true;
}

/* ---- opening --------------------------------------------------------------------------------- */

struct ort_base {
    const void *const *(*get_api)(uint32_t version);
    const char *(*get_version)(void);
};

/* "1.32.0": the minor number must be one whose table and fixes are known. */
static bool check_version(const char *path, const char *version, struct err *e)
{
    uint64_t minor = 0;
    char digits[8] = {0};
    if (version && strncmp(version, "1.", 2) == 0 && strlen(version) < sizeof(runtime.version)) {
        size_t n = strspn(version + 2, "0123456789");
        if (n > 0 && n < sizeof(digits)) {
            memcpy(digits, version + 2, n);
            (void)parse_u64("minor", digits, 0, 1000000, &minor, NULL);
        }
    }
    if (minor < ORT_MINOR_MIN)
        return err_set(e, ERR_UNSUPPORTED, "%s: ONNX Runtime version '%.31s', need 1.%d or later",
                       path, version ? version : "", ORT_MINOR_MIN);
    memcpy(runtime.version, version, strlen(version) + 1);
    return true;
}

static bool take_table(const char *path, const struct ort_base *base, struct err *e)
{
    const void *const *table = base->get_api(ORT_API_VERSION);
    if (!table)
        return err_set(e, ERR_UNSUPPORTED, "%s: has no table of version %d", path, ORT_API_VERSION);
#define ORT_TAKE(name, slot, result, parameters)                                                   \
    if (!table[slot])                                                                              \
        return err_set(e, ERR_UNSUPPORTED, "%s: slot %d is empty", path, slot);                    \
    memcpy(&runtime.api.name, &table[slot], sizeof(runtime.api.name));
    ORT_SLOTS(ORT_TAKE)
#undef ORT_TAKE
    return true;
}

static bool open_locked(const char *path, struct err *e)
{
    if (opened_path) {
        if (strcmp(opened_path, path) == 0)
            return true;
        return err_set(e, ERR_INVALID, "runtime '%s': this process has loaded '%s' already", path,
                       opened_path);
    }
    /* Its event client looks at this once, when the environment is made. */
    if (setenv("ORT_DISABLE_TELEMETRY", "1", 1) != 0)
        return err_set(e, ERR_MEMORY, "runtime: no memory");
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return err_set(e, ERR_UNSUPPORTED, "runtime: %s", dlerror());
    const struct ort_base *(*get_base)(void);
    void *symbol = dlsym(library, "OrtGetApiBase");
    if (!symbol) {
        (void)dlclose(library);
        return err_set(e, ERR_UNSUPPORTED, "%s: is not ONNX Runtime (no OrtGetApiBase)", path);
    }
    memcpy(&get_base, &symbol, sizeof(get_base));
    const struct ort_base *base = get_base();
    if (!check_version(path, base->get_version(), e) || !take_table(path, base, e))
        return false;
    opened_path = strdup(path);
    return opened_path || err_set(e, ERR_MEMORY, "runtime: no memory");
}

bool runtime_open(const char *path, struct err *e)
{
    (void)pthread_mutex_lock(&lock);
    bool ok = open_locked(path, e);
    (void)pthread_mutex_unlock(&lock);
    return ok;
}

static bool start_locked(struct err *e)
{
    struct runtime *r = &runtime;
    if (started)
        return true;
    if (!opened_path)
        return err_set(e, ERR_INTERNAL, "runtime: not opened");
    /* Level fatal: what fails comes back as a status, nothing is to be printed. */
    started =
        runtime_ok(r, r->api.create_env(ORT_LOG_FATAL, "s2m3", &r->env), ERR_INTERNAL, "runtime",
                   e) &&
        runtime_ok(r, r->api.disable_telemetry(r->env), ERR_INTERNAL, "runtime", e) &&
        runtime_ok(r, r->api.cpu_memory_info(ORT_ALLOCATOR_DEVICE, ORT_MEMORY_DEFAULT, &r->cpu),
                   ERR_INTERNAL, "runtime", e) &&
        runtime_ok(r, r->api.default_allocator(&r->allocator), ERR_INTERNAL, "runtime", e);
    return started;
}

bool runtime_start(const struct runtime **ret, struct err *e)
{
    (void)pthread_mutex_lock(&lock);
    bool ok = start_locked(e);
    (void)pthread_mutex_unlock(&lock);
    if (ok)
        *ret = &runtime;
    return ok;
}

/* The runtime's numbers to ours; what it does not tell apart stays with the caller's choice. */
static enum err_code code_of(int number, const char *text, enum err_code otherwise)
{
    if (strstr(text, "bad_alloc") || strstr(text, "Failed to allocate memory"))
        return ERR_MEMORY;
    switch (number) {
    case 2:  /* invalid argument */
    case 7:  /* invalid protobuf */
    case 10: /* invalid graph */
        return ERR_INVALID;
    case 3: /* no such file */
        return ERR_NOT_FOUND;
    case 9: /* not implemented */
        return ERR_UNSUPPORTED;
    default:
        return otherwise;
    }
}

bool runtime_ok(const struct runtime *r, struct ort_status *s, enum err_code otherwise,
                const char *what, struct err *e)
{
    if (!s)
        return true;
    const char *text = r->api.get_error_message(s);
    enum err_code code = code_of(r->api.get_error_code(s), text, otherwise);
    err_set(e, code, "%s: %.400s", what, text);
    r->api.release_status(s);
    return false;
}
