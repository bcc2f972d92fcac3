/* SPDX-License-Identifier: MIT */
/*
 * A program without a C library: it has the four functions that the core may call, an entry point,
 * and nothing else.  That it links is the test.
 */
#include <stddef.h>
#include <stdint.h>

#include <vmbus/version.h>

void *memcpy(void *to, const void *from, size_t len);
void *memmove(void *to, const void *from, size_t len);
void *memset(void *to, int byte, size_t len);
int memcmp(const void *a, const void *b, size_t len);
void _start(void);

/* volatile keeps the compiler from turning the loops into calls of themselves. */
void *memcpy(void *to, const void *from, size_t len)
{
	volatile uint8_t *t = to;
	const uint8_t *f = from;

	while (len--)
		*t++ = *f++;
	return to;
}

void *memmove(void *to, const void *from, size_t len)
{
	volatile uint8_t *t = to;
	const uint8_t *f = from;

	if ((uintptr_t)to - (uintptr_t)from >= len)
		return memcpy(to, from, len);
	while (len--)
		t[len] = f[len];
	return to;
}

void *memset(void *to, int byte, size_t len)
{
	volatile uint8_t *t = to;

	while (len--)
		*t++ = (uint8_t)byte;
	return to;
}

int memcmp(const void *a, const void *b, size_t len)
{
	const volatile uint8_t *x = a;
	const volatile uint8_t *y = b;

	for (; len--; x++, y++) {
		if (*x != *y)
			return *x < *y ? -1 : 1;
	}
	return 0;
}

void _start(void)
{
	for (;;)
		(void)vmbus_version();
}
