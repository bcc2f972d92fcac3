/* SPDX-License-Identifier: MIT */
/*
 * Ports: the serial line, power, CMOS with the time of day, the keyboard controller's and PCI's ways
 * to reset, and the port by which a test marks a moment.  Where nothing is, reads are all ones.
 */
#include "vmm.h"

#include <time.h>

#define PORT_CMOS 0x70u
#define PORT_I8042 0x64u
#define PORT_CF9 0xCF9u

static uint8_t bcd(int value)
{
	return (uint8_t)(value / 10 % 10 << 4 | value % 10);
}

uint8_t vmm_cmos(uint8_t reg, int64_t now)
{
	const time_t t = (time_t)now;
	struct tm tm;

	if (!gmtime_r(&t, &tm))
		return 0;
	switch (reg & 0x7Fu) {
	case 0x00:
		return bcd(tm.tm_sec);
	case 0x02:
		return bcd(tm.tm_min);
	case 0x04:
		return bcd(tm.tm_hour);
	case 0x06:
		return bcd(tm.tm_wday + 1);
	case 0x07:
		return bcd(tm.tm_mday);
	case 0x08:
		return bcd(tm.tm_mon + 1);
	case 0x09:
		return bcd(tm.tm_year % 100);
	case 0x32:
		return bcd(19 + tm.tm_year / 100);
	case 0x0A:
		return 0x26; /* no update is under way */
	case 0x0B:
		return 0x02; /* 24 hours, BCD */
	case 0x0D:
		return 0x80; /* the battery is good */
	default:
		return 0;
	}
}

static enum vmm_port_event power(uint32_t value)
{
	if (value == 0x34) /* sleep type 5, and the bit that means it */
		return VMM_PORT_OFF;
	return value == 1 ? VMM_PORT_RESET : VMM_PORT_NONE;
}

static bool is_serial(uint16_t port)
{
	return port >= VMM_SERIAL_PORT && port < VMM_SERIAL_PORT + 8u;
}

void vmm_platform_init(struct vmm_platform *p)
{
	vmm_serial_init(&p->serial);
	tzset(); /* reads a file: not when the clock is asked for the first time */
	pthread_mutex_init(&p->lock, NULL);
	p->cmos_index = 0;
	p->unclaimed = 0;
}

void vmm_platform_save(struct vmm_platform *p, struct vmm_saved_platform *to)
{
	vmm_serial_save(&p->serial, to);
	pthread_mutex_lock(&p->lock);
	to->cmos_index = p->cmos_index;
	pthread_mutex_unlock(&p->lock);
}

void vmm_platform_restore(struct vmm_platform *p, const struct vmm_saved_platform *from)
{
	pthread_mutex_lock(&p->lock);
	p->cmos_index = from->cmos_index;
	pthread_mutex_unlock(&p->lock);
	vmm_serial_restore(&p->serial, from);
}

void vmm_platform_unclaimed(struct vmm_platform *p)
{
	pthread_mutex_lock(&p->lock);
	p->unclaimed++;
	pthread_mutex_unlock(&p->lock);
}

enum vmm_port_event vmm_port_out(struct vmm_platform *p, uint16_t port, uint32_t value)
{
	if (is_serial(port)) {
		vmm_serial_write(&p->serial, (uint32_t)port - VMM_SERIAL_PORT, (uint8_t)value);
		return VMM_PORT_NONE;
	}
	switch (port) {
	case VMM_PORT_POWER:
		return power(value & 0xFFu);
	case VMM_PORT_MARK:
		return VMM_PORT_MARKED;
	case PORT_CMOS:
		pthread_mutex_lock(&p->lock);
		p->cmos_index = (uint8_t)value;
		pthread_mutex_unlock(&p->lock);
		return VMM_PORT_NONE;
	case PORT_CMOS + 1:
		return VMM_PORT_NONE;
	case PORT_I8042:
		return (value & 0xFFu) == 0xFE ? VMM_PORT_RESET : VMM_PORT_NONE;
	case PORT_CF9:
		return (value & 0x04u) ? VMM_PORT_RESET : VMM_PORT_NONE;
	default:
		vmm_platform_unclaimed(p);
		return VMM_PORT_NONE;
	}
}

static uint8_t cmos_index(struct vmm_platform *p)
{
	uint8_t index;

	pthread_mutex_lock(&p->lock);
	index = p->cmos_index;
	pthread_mutex_unlock(&p->lock);
	return index;
}

/* What a port of one byte gives; further bytes of a wider access are all ones. */
uint32_t vmm_port_in(struct vmm_platform *p, uint16_t port, uint32_t bytes)
{
	const uint32_t ones = bytes >= 4 ? UINT32_MAX : (1u << (8 * bytes)) - 1u;
	const uint32_t above = ones & ~0xFFu;

	if (is_serial(port))
		return above | vmm_serial_read(&p->serial, (uint32_t)port - VMM_SERIAL_PORT);
	switch (port) {
	case VMM_PORT_POWER:
		return above; /* sleep status: awake */
	case PORT_CMOS:
		return above | cmos_index(p);
	case PORT_CMOS + 1:
		return above | vmm_cmos(cmos_index(p), (int64_t)time(NULL));
	default:
		vmm_platform_unclaimed(p);
		return ones;
	}
}
