/* SPDX-License-Identifier: MIT */
/*
 * A 16550 with its FIFOs.  vCPUs write into a buffer that the main thread empties, so a terminal that
 * stands still holds no vCPU up: then the guest sees a transmitter that is busy, and what it writes
 * all the same is dropped and counted.
 */
#include "vmm.h"

#include <string.h>

#define IER_RX 0x01u
#define IER_TX 0x02u
#define LCR_DLAB 0x80u
#define MCR_LOOP 0x10u
#define LSR_RX 0x01u
#define LSR_TX 0x60u

void vmm_serial_init(struct vmm_serial *serial)
{
	memset(serial, 0, sizeof(*serial));
	pthread_mutex_init(&serial->lock, NULL);
}

static bool has_room(const struct vmm_serial *s)
{
	return s->out_count < VMM_SERIAL_OUT - 16u;
}

/* The reason to interrupt, as the identification register words it; 1: none. */
static uint8_t reason(const struct vmm_serial *s)
{
	if ((s->ier & IER_RX) && s->in_count)
		return 4;
	if ((s->ier & IER_TX) && s->thr_irq)
		return 2;
	return 1;
}

static void update(struct vmm_serial *s)
{
	const bool line = reason(s) != 1;

	if (line == s->line)
		return;
	s->line = line;
	if (s->irq)
		s->irq(s->ctx, line);
}

/* Returns whether the main thread must be woken. */
static bool transmit(struct vmm_serial *s, uint8_t byte)
{
	const bool was_empty = s->out_count == 0;

	if (s->mcr & MCR_LOOP) {
		if (s->in_count < VMM_SERIAL_IN)
			s->in[(s->in_head + s->in_count++) % VMM_SERIAL_IN] = byte;
		return false;
	}
	if (s->out_count == VMM_SERIAL_OUT) {
		s->dropped++;
		return false;
	}
	s->out[(s->out_head + s->out_count++) % VMM_SERIAL_OUT] = byte;
	s->thr_irq = has_room(s);
	return was_empty;
}

static uint8_t receive(struct vmm_serial *s)
{
	uint8_t byte = 0;

	if (s->in_count) {
		byte = s->in[s->in_head];
		s->in_head = (s->in_head + 1) % VMM_SERIAL_IN;
		s->in_count--;
	}
	return byte;
}

static uint8_t identify(struct vmm_serial *s)
{
	const uint8_t why = reason(s);

	if (why == 2)
		s->thr_irq = false; /* told */
	return (uint8_t)(why | (s->fifo ? 0xC0 : 0));
}

static uint8_t modem(const struct vmm_serial *s)
{
	if (!(s->mcr & MCR_LOOP))
		return 0xB0;
	/* DTR to DSR, RTS to CTS, OUT1 to RI, OUT2 to DCD. */
	return (uint8_t)((s->mcr & 1u) << 5 | (s->mcr & 2u) << 3 | (s->mcr & 4u) << 4 |
			 (s->mcr & 8u) << 4);
}

static uint8_t read_locked(struct vmm_serial *s, uint32_t reg)
{
	switch (reg) {
	case 0:
		return (s->lcr & LCR_DLAB) ? s->dll : receive(s);
	case 1:
		return (s->lcr & LCR_DLAB) ? s->dlm : s->ier;
	case 2:
		return identify(s);
	case 3:
		return s->lcr;
	case 4:
		return s->mcr;
	case 5:
		return (uint8_t)((has_room(s) ? LSR_TX : 0) | (s->in_count ? LSR_RX : 0));
	case 6:
		return modem(s);
	default:
		return s->scratch;
	}
}

uint8_t vmm_serial_read(struct vmm_serial *serial, uint32_t reg)
{
	uint8_t value;

	pthread_mutex_lock(&serial->lock);
	value = read_locked(serial, reg & 7u);
	update(serial);
	pthread_mutex_unlock(&serial->lock);
	return value;
}

static void set_enable(struct vmm_serial *s, uint8_t value)
{
	if ((value & IER_TX) && !(s->ier & IER_TX))
		s->thr_irq = has_room(s); /* the transmitter is empty: say so at once */
	s->ier = value & 0xFu;
}

static bool write_locked(struct vmm_serial *s, uint32_t reg, uint8_t value)
{
	switch (reg) {
	case 0:
		if (!(s->lcr & LCR_DLAB))
			return transmit(s, value);
		s->dll = value;
		break;
	case 1:
		if (s->lcr & LCR_DLAB)
			s->dlm = value;
		else
			set_enable(s, value);
		break;
	case 2:
		s->fifo = value & 1u;
		if (value & 2u)
			s->in_count = 0;
		break;
	case 3:
		s->lcr = value;
		break;
	case 4:
		s->mcr = value & 0x1Fu;
		break;
	case 7:
		s->scratch = value;
		break;
	default:
		break;
	}
	return false;
}

void vmm_serial_write(struct vmm_serial *serial, uint32_t reg, uint8_t value)
{
	bool wake;

	pthread_mutex_lock(&serial->lock);
	wake = write_locked(serial, reg & 7u, value);
	update(serial);
	pthread_mutex_unlock(&serial->lock);
	if (wake && serial->wake)
		serial->wake(serial->ctx);
}

uint32_t vmm_serial_room(struct vmm_serial *serial)
{
	uint32_t room;

	pthread_mutex_lock(&serial->lock);
	room = VMM_SERIAL_IN - serial->in_count;
	pthread_mutex_unlock(&serial->lock);
	return room;
}

void vmm_serial_input(struct vmm_serial *serial, const uint8_t *bytes, uint32_t count)
{
	pthread_mutex_lock(&serial->lock);
	while (count-- && serial->in_count < VMM_SERIAL_IN)
		serial->in[(serial->in_head + serial->in_count++) % VMM_SERIAL_IN] = *bytes++;
	update(serial);
	pthread_mutex_unlock(&serial->lock);
}

uint32_t vmm_serial_output(struct vmm_serial *serial, uint8_t *to, uint32_t room)
{
	uint32_t n = 0;

	pthread_mutex_lock(&serial->lock);
	while (n < room && serial->out_count) {
		to[n++] = serial->out[serial->out_head];
		serial->out_head = (serial->out_head + 1) % VMM_SERIAL_OUT;
		serial->out_count--;
	}
	/* Room again: a guest that found none may wait for the interrupt. */
	if (n)
		serial->thr_irq = true;
	update(serial);
	pthread_mutex_unlock(&serial->lock);
	return n;
}

void vmm_serial_save(struct vmm_serial *serial, struct vmm_saved_platform *to)
{
	uint32_t i;

	pthread_mutex_lock(&serial->lock);
	to->ier = serial->ier;
	to->lcr = serial->lcr;
	to->mcr = serial->mcr;
	to->scratch = serial->scratch;
	to->dll = serial->dll;
	to->dlm = serial->dlm;
	to->fifo = serial->fifo;
	to->thr_irq = serial->thr_irq;
	to->in_count = (uint8_t)serial->in_count;
	for (i = 0; i < serial->in_count; i++)
		to->in[i] = serial->in[(serial->in_head + i) % VMM_SERIAL_IN];
	pthread_mutex_unlock(&serial->lock);
}

/* Any values will do: the guest could have written them. */
void vmm_serial_restore(struct vmm_serial *serial, const struct vmm_saved_platform *from)
{
	pthread_mutex_lock(&serial->lock);
	serial->ier = from->ier & 0xFu;
	serial->lcr = from->lcr;
	serial->mcr = from->mcr & 0x1Fu;
	serial->scratch = from->scratch;
	serial->dll = from->dll;
	serial->dlm = from->dlm;
	serial->fifo = from->fifo & 1u;
	/* What was to go out went without it: a guest that found no room may wait for the interrupt. */
	serial->thr_irq = true;
	serial->in_head = 0;
	serial->in_count = from->in_count < VMM_SERIAL_IN ? from->in_count : VMM_SERIAL_IN;
	memcpy(serial->in, from->in, VMM_SERIAL_IN);
	update(serial);
	pthread_mutex_unlock(&serial->lock);
}

bool vmm_serial_waiting(struct vmm_serial *serial)
{
	bool waiting;

	pthread_mutex_lock(&serial->lock);
	waiting = serial->out_count > 0;
	pthread_mutex_unlock(&serial->lock);
	return waiting;
}

void vmm_serial_reset(struct vmm_serial *serial)
{
	pthread_mutex_lock(&serial->lock);
	serial->ier = serial->lcr = serial->mcr = serial->scratch = serial->dll = serial->dlm = 0;
	serial->fifo = false;
	serial->thr_irq = false;
	serial->in_count = 0;
	update(serial);
	pthread_mutex_unlock(&serial->lock);
}
