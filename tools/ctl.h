/* SPDX-License-Identifier: MIT */
/* What the files of vmbusctl share. */
#ifndef VMBUSCTL_H
#define VMBUSCTL_H

#include <stdbool.h>
#include <stdint.h>

/* Exit statuses. */
#define CTL_OK 0
#define CTL_FAILED 1
#define CTL_USAGE 2

int ctl_list(const char *path, bool json, uint64_t timeout_ns);

/* What every command of a parent's socket is told. */
struct ctl_ask {
	const char *path;
	uint64_t timeout_ns;
	uint64_t interval_ns;
	uint64_t grace_ns; /* doctor: how long something may take */
	uint32_t count;	   /* stat: 0 for ever */
	bool json;
};
int ctl_stat(const struct ctl_ask *ask);
int ctl_doctor(const struct ctl_ask *ask);
/* The record in a file; without file that of each child of the parent, or of the named one. */
int ctl_record(const struct ctl_ask *ask, const char *file, const char *child);

/* Tell why a question to a parent failed; returns the exit status. */
int ctl_failed(const char *path, int err);
/* Printable text as a JSON string. */
void ctl_json_string(const char *text);
int ctl_check(void);

/* One line of a check: what was looked at, how it is, and what to do about it (may be NULL). */
enum ctl_verdict {
	CTL_GOOD,
	CTL_LIMITED, /* works, but not for everything */
	CTL_BAD
};
void ctl_report(enum ctl_verdict verdict, const char *what, const char *how, const char *advice);

/* Look at /dev/kvm; nothing in this version needs it. */
void ctl_check_kvm(void);

#endif
