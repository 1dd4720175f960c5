/* local.h - a model's folder answered in this process, without a fleet. */
#pragma once
#include "cli/cli.h"
#include "exec/exec.h"
#include "task/model.h"
#include "task/request.h"

struct local;

/* Reads the folder, works out its programs, loads its modules. */
bool local_open(const char *folder, const char *dtype, const struct exec_options *options,
                struct local **ret, struct err *e);
void local_close(struct local *l);

/* The task's answer, a new reference.  Changes the request (fits it to the program). */
bool local_answer(struct local *l, const char *task, struct request *r, json_t **ret,
                  struct err *e);
