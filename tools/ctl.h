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
