/* SPDX-License-Identifier: MIT */
/*
 * Errors and faults as text and as classes.  Formatting is done here by hand, since the core has
 * no C library to do it.
 */
#include <vmbus/base.h>

static const struct {
	const char *name;
	enum vmbus_err_class class;
} errors[] = {
	[-VMBUS_OK] = { "OK", VMBUS_CLASS_NONE },
	[-VMBUS_E_AGAIN] = { "AGAIN", VMBUS_CLASS_RETRY },
	[-VMBUS_E_FULL] = { "FULL", VMBUS_CLASS_RETRY },
	[-VMBUS_E_INVAL] = { "INVAL", VMBUS_CLASS_CALLER },
	[-VMBUS_E_RANGE] = { "RANGE", VMBUS_CLASS_CALLER },
	[-VMBUS_E_STATE] = { "STATE", VMBUS_CLASS_CALLER },
	[-VMBUS_E_PEER] = { "PEER", VMBUS_CLASS_PEER },
	[-VMBUS_E_FAULT] = { "FAULT", VMBUS_CLASS_PEER },
	[-VMBUS_E_NOMEM] = { "NOMEM", VMBUS_CLASS_SYSTEM },
	[-VMBUS_E_PERM] = { "PERM", VMBUS_CLASS_SYSTEM },
	[-VMBUS_E_NOTSUP] = { "NOTSUP", VMBUS_CLASS_SYSTEM },
	[-VMBUS_E_SYSTEM] = { "SYSTEM", VMBUS_CLASS_SYSTEM },
};
#define ERRORS (sizeof(errors) / sizeof(errors[0]))

static const char *const fields[] = {
	[VMBUS_FAULT_NONE] = "none",
	[VMBUS_FAULT_WRITE_INDEX] = "write index",
	[VMBUS_FAULT_WRITE_INDEX_ALIGN] = "write index",
	[VMBUS_FAULT_WRITE_INDEX_BACK] = "write index (moved back)",
	[VMBUS_FAULT_READ_INDEX] = "read index",
	[VMBUS_FAULT_READ_INDEX_ALIGN] = "read index",
	[VMBUS_FAULT_READ_INDEX_BACK] = "read index (outside what was published)",
	[VMBUS_FAULT_PKT_SPACE] = "bytes left for a packet",
	[VMBUS_FAULT_PKT_TYPE] = "packet type",
	[VMBUS_FAULT_PKT_FLAGS] = "packet flags",
	[VMBUS_FAULT_PKT_OFFSET] = "packet offset8",
	[VMBUS_FAULT_PKT_OFFSET_PAST] = "packet offset8",
	[VMBUS_FAULT_PKT_LENGTH] = "packet length with trailer",
	[VMBUS_FAULT_RANGE_COUNT] = "range count",
	[VMBUS_FAULT_RANGE_BYTES] = "range byte count",
	[VMBUS_FAULT_RANGE_OFFSET] = "range byte offset",
	[VMBUS_FAULT_RANGE_PFNS] = "range page numbers",
	[VMBUS_FAULT_RESUME_INDEX] = "index of ours at resume",
};

enum vmbus_err_class vmbus_err_class(int err)
{
	if (err >= 0)
		return VMBUS_CLASS_NONE;
	if (err <= -(int)ERRORS)
		return VMBUS_CLASS_SYSTEM;
	return errors[-err].class;
}

const char *vmbus_err_name(int err)
{
	if (err >= 0)
		return errors[0].name;
	if (err <= -(int)ERRORS)
		return "?";
	return errors[-err].name;
}

const char *vmbus_fault_name(uint32_t field)
{
	return field < sizeof(fields) / sizeof(fields[0]) ? fields[field] : "?";
}

/* Text that is written as far as it fits and counted as a whole. */
struct text {
	char *buf;
	size_t bytes;
	size_t len;
};

static void text_char(struct text *t, char c)
{
	if (t->len + 1 < t->bytes)
		t->buf[t->len] = c;
	t->len++;
}

static void text_str(struct text *t, const char *s)
{
	while (*s)
		text_char(t, *s++);
}

static void text_num(struct text *t, uint64_t v)
{
	char digits[20];
	unsigned int n = 0;

	do {
		digits[n++] = (char)('0' + (char)(v % 10u));
		v /= 10u;
	} while (v);
	while (n)
		text_char(t, digits[--n]);
}

/* How the limit of a field binds its value. */
static const char *relation(const struct vmbus_fault *fault)
{
	switch (fault->field) {
	case VMBUS_FAULT_WRITE_INDEX_ALIGN:
	case VMBUS_FAULT_READ_INDEX_ALIGN:
		return ", must be a multiple of ";
	case VMBUS_FAULT_PKT_SPACE:
	case VMBUS_FAULT_PKT_OFFSET:
	case VMBUS_FAULT_RANGE_PFNS:
		return ", must be at least ";
	case VMBUS_FAULT_WRITE_INDEX_BACK:
	case VMBUS_FAULT_READ_INDEX_BACK:
		return ", may not pass ";
	case VMBUS_FAULT_RESUME_INDEX:
		return ", must be ";
	default:
		return fault->value || !fault->limit ? ", must be at most "
						     : ", must be from 1 to ";
	}
}

size_t vmbus_fault_format(const struct vmbus_fault *fault, char *buf, size_t bytes)
{
	struct text t = { buf, bytes, 0 };

	text_str(&t, vmbus_fault_name(fault->field));
	if (fault->field != VMBUS_FAULT_NONE) {
		text_str(&t, " is ");
		text_num(&t, fault->value);
		text_str(&t, relation(fault));
		text_num(&t, fault->limit);
		text_str(&t, ", at ring offset ");
		text_num(&t, fault->where);
	}
	if (bytes)
		buf[t.len < bytes ? t.len : bytes - 1] = '\0';
	return t.len;
}
