/* SPDX-License-Identifier: MIT */
/* The SynIC of one VP with its two pages, as a Linux guest leaves it, for the suites of synic.c. */
#ifndef SYNICBOX_H
#define SYNICBOX_H

#include <vmbus/synic.h>

#include "base/atomic.h"
#include "vmbus_test.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

enum {
	VP_ASSIST = 0x40000073,
	SCONTROL = 0x40000080,
	SVERSION = 0x40000081,
	SIEFP = 0x40000082,
	SIMP = 0x40000083,
	EOM = 0x40000084,
	SINT0 = 0x40000090
};

#define MASKED 0x10000u
#define AUTO_EOI 0x20000u
#define POLLING 0x40000u

/* The message page's slot of a SINT, and the flags' area, both 256 bytes. */
#define SLOT(n) (messages + (n)*256)
#define GPA_MESSAGES 0x7000u
#define GPA_FLAGS 0x9000u

static _Alignas(4096) uint8_t messages[4096], flags[4096];
static struct vmbus_synic synic;
static struct vmbus_synic_msg msg, got;
static uint32_t arg;
static bool eom;

static inline uint64_t reg(uint32_t msr)
{
	uint64_t v = 0xDEAD;

	must_eq(vmbus_synic_msr_read(&synic, msr, &v), 0);
	return v;
}

static inline int wr(uint32_t msr, uint64_t value)
{
	return vmbus_synic_msr_write(&synic, msr, value, false);
}

static inline void set_pages(void)
{
	vmbus_synic_set_pages(&synic, messages, flags, NULL, 0, 0);
}

/* As a Linux guest leaves it: SINT 2 on vector 0xF3. */
static inline void fresh(void)
{
	memset(&synic, 0xA5, sizeof(synic));
	memset(messages, 0xCC, sizeof(messages));
	memset(flags, 0xCC, sizeof(flags));
	vmbus_synic_reset(&synic);
	must_eq(wr(SIMP, GPA_MESSAGES | 1), VMBUS_SYNIC_PAGES | VMBUS_SYNIC_SLOT_FREE);
	must_eq(wr(SIEFP, GPA_FLAGS | 1), VMBUS_SYNIC_PAGES);
	set_pages();
	must_eq(wr(SINT0 + 2, 0xF3), VMBUS_SYNIC_SLOT_FREE);
	memset(&msg, 0, sizeof(msg));
	msg.type = 1;
}

static inline int post(uint32_t sint)
{
	arg = 0x55555555;
	return vmbus_synic_post(&synic, sint, &msg, false, &arg);
}

static inline int raise_flag(uint32_t sint, uint32_t flag)
{
	arg = 0x55555555;
	return vmbus_synic_raise(&synic, sint, flag, &arg);
}

static inline int take(uint32_t sint)
{
	memset(&got, 0, sizeof(got));
	eom = true;
	return vmbus_synic_take(messages, sint, &got, &eom);
}

static inline uint32_t slot_word(uint32_t sint, uint32_t at)
{
	uint32_t v;

	memcpy(&v, SLOT(sint) + at, sizeof(v));
	return v;
}

#endif
