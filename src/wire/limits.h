/* limits.h - the bounds of everything that crosses between processes, in one place. */
#pragma once

#define WIRE_ID_MAX 64                  /* device, request and call ids, with the 0 */
#define WIRE_NAME_MAX 128               /* names of devices, models and tasks, with the 0 */
#define WIRE_URL_MAX 256                /* with the 0 */
#define WIRE_HEADER_MAX (4u << 20)      /* JSON part of a frame, bytes */
#define WIRE_PARTS_MAX 64               /* binary parts of a frame */
#define WIRE_BODY_MAX ((size_t)1 << 30) /* whole frame, bytes */
#define WIRE_INPUTS_MAX 64              /* inputs or outputs of a call */
#define WIRE_TARGETS_MAX 64             /* deliveries of a call */
#define WIRE_DEVICES_MAX 1024
#define WIRE_MODULES_MAX 8192
#define WIRE_MODELS_MAX 2048
#define WIRE_PROGRAMS_MAX 16       /* programs (tasks) of a model */
#define WIRE_DIMS_MAX 512          /* sizes of dynamic dims of a module */
#define WIRE_BLOBS_MAX 64          /* side files of a model */
#define WIRE_TABLE_MAX (64u << 20) /* routing table as JSON, bytes */
