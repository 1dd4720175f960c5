/* ort.h - the part of ONNX Runtime's C table that is used, declared by ourselves.
 *
 * The library exports OrtGetApiBase(); its GetApi(22) gives an array of function pointers that is
 * only ever appended to.  A row below is (our name, slot in that array, result, parameters); a test
 * calls each of them with checked effects, because a wrong slot number calls another function.
 * Objects are opaque.  A status is NULL on success, else read and released.
 *
 * Not here: finding and opening the library (runtime.h). */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define ORT_API_VERSION 22 /* lowest number whose table has all slots below */
#define ORT_MINOR_MIN 28   /* 1.28: fixes for hostile models that earlier ones lack */

#define ORT_LEVEL_NONE 0
#define ORT_LEVEL_ALL 99
#define ORT_LOG_FATAL 4
#define ORT_KIND_TENSOR 1
#define ORT_ALLOCATOR_DEVICE 0
#define ORT_MEMORY_DEFAULT 0

struct ort_status;
struct ort_env;
struct ort_session;
struct ort_session_options;
struct ort_run_options;
struct ort_value;
struct ort_memory_info;
struct ort_allocator;
struct ort_type_info;
struct ort_tensor_info;

/* clang-format off */
#define ORT_SLOTS(X)                                                                               \
    X(get_error_code, 1, int, (const struct ort_status *))                                         \
    X(get_error_message, 2, const char *, (const struct ort_status *))                             \
    X(create_env, 3, struct ort_status *, (int level, const char *id, struct ort_env **))          \
    X(disable_telemetry, 6, struct ort_status *, (const struct ort_env *))                         \
    X(create_session, 7, struct ort_status *, (const struct ort_env *, const char *path,           \
        const struct ort_session_options *, struct ort_session **))                                \
    X(create_session_from_bytes, 8, struct ort_status *, (const struct ort_env *, const void *,    \
        size_t, const struct ort_session_options *, struct ort_session **))                        \
    X(run, 9, struct ort_status *, (struct ort_session *, const struct ort_run_options *,          \
        const char *const *input_names, const struct ort_value *const *inputs, size_t,             \
        const char *const *output_names, size_t, struct ort_value **outputs))                      \
    X(create_session_options, 10, struct ort_status *, (struct ort_session_options **))            \
    X(set_optimized_path, 11, struct ort_status *, (struct ort_session_options *, const char *))   \
    X(disable_mem_pattern, 17, struct ort_status *, (struct ort_session_options *))                \
    X(disable_cpu_arena, 19, struct ort_status *, (struct ort_session_options *))                  \
    X(set_log_level, 22, struct ort_status *, (struct ort_session_options *, int))                 \
    X(set_optimization, 23, struct ort_status *, (struct ort_session_options *, int))              \
    X(set_intra_threads, 24, struct ort_status *, (struct ort_session_options *, int))             \
    X(set_inter_threads, 25, struct ort_status *, (struct ort_session_options *, int))             \
    X(input_count, 30, struct ort_status *, (const struct ort_session *, size_t *))                \
    X(output_count, 31, struct ort_status *, (const struct ort_session *, size_t *))               \
    X(input_type, 33, struct ort_status *, (const struct ort_session *, size_t,                    \
        struct ort_type_info **))                                                                  \
    X(output_type, 34, struct ort_status *, (const struct ort_session *, size_t,                   \
        struct ort_type_info **))                                                                  \
    X(input_name, 36, struct ort_status *, (const struct ort_session *, size_t,                    \
        struct ort_allocator *, char **))                                                          \
    X(output_name, 37, struct ort_status *, (const struct ort_session *, size_t,                   \
        struct ort_allocator *, char **))                                                          \
    X(create_run_options, 39, struct ort_status *, (struct ort_run_options **))                    \
    X(set_terminate, 46, struct ort_status *, (struct ort_run_options *))                          \
    X(tensor_over_data, 49, struct ort_status *, (const struct ort_memory_info *, void *data,      \
        size_t bytes, const int64_t *dims, size_t rank, int type, struct ort_value **))            \
    X(is_tensor, 50, struct ort_status *, (const struct ort_value *, int *))                       \
    X(tensor_data, 51, struct ort_status *, (struct ort_value *, void **))                         \
    X(as_tensor_info, 55, struct ort_status *, (const struct ort_type_info *,                      \
        const struct ort_tensor_info **))                                                          \
    X(type_kind, 56, struct ort_status *, (const struct ort_type_info *, int *))                   \
    X(element_type, 60, struct ort_status *, (const struct ort_tensor_info *, int *))              \
    X(dims_count, 61, struct ort_status *, (const struct ort_tensor_info *, size_t *))             \
    X(dims, 62, struct ort_status *, (const struct ort_tensor_info *, int64_t *, size_t))          \
    X(dim_names, 63, struct ort_status *, (const struct ort_tensor_info *, const char **,          \
        size_t))                                                                                   \
    X(value_info, 65, struct ort_status *, (const struct ort_value *, struct ort_tensor_info **))  \
    X(cpu_memory_info, 69, struct ort_status *, (int allocator, int memory,                        \
        struct ort_memory_info **))                                                                \
    X(allocator_free, 76, struct ort_status *, (struct ort_allocator *, void *))                   \
    X(default_allocator, 78, struct ort_status *, (struct ort_allocator **))                       \
    X(release_env, 92, void, (struct ort_env *))                                                   \
    X(release_status, 93, void, (struct ort_status *))                                             \
    X(release_memory_info, 94, void, (struct ort_memory_info *))                                   \
    X(release_session, 95, void, (struct ort_session *))                                           \
    X(release_value, 96, void, (struct ort_value *))                                               \
    X(release_run_options, 97, void, (struct ort_run_options *))                                   \
    X(release_type_info, 98, void, (struct ort_type_info *))                                       \
    X(release_tensor_info, 99, void, (struct ort_tensor_info *))                                   \
    X(release_session_options, 100, void, (struct ort_session_options *))                          \
    X(add_session_key, 130, struct ort_status *, (struct ort_session_options *, const char *key,   \
        const char *value))                                                                        \
    X(has_session_key, 237, struct ort_status *, (const struct ort_session_options *,              \
        const char *key, int *))
/* clang-format on */

#define ORT_MEMBER(name, slot, result, parameters) result(*name) parameters;
struct ort_api {
    ORT_SLOTS(ORT_MEMBER)
};
#undef ORT_MEMBER
