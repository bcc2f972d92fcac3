/* SPDX-License-Identifier: MIT */
/*
 * Saved states of a machine and of a bus whose every byte is input, under a checksum that is right.
 * What is taken has to keep every invariant while a child goes on with it, and what is saved after
 * that has to be taken again.
 *
 * The first byte chooses, 4 bytes are the length of the state that follows.  Behind it: for a machine
 * the steps of srv_drive.h, for a bus, with one set of devices or another, words of the child's memory.
 */
#define _GNU_SOURCE

#include "vmbus_test.h"

#undef ck_abort_msg
#define ck_abort_msg(...) __builtin_trap()

#include <vmbus/echo.h>
#include <vmbus/ic.h>
#include <vmbus/srv_save.h>

#include "bus/fake.h"
#include "channel/srv_drive.h"
#include "channel/srv_state_check.h"

#define PAGES 64u
#define STATE_MAX ((size_t)1 << 18)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- the machine ---- */

static void use_machine(struct srv_drive *d)
{
	uint32_t i;

	for (i = 0; i < 100; i++) {
		must(srv_check(d->srv) == NULL);
		if (!drive_step(d) && !d->trouble)
			break;
		d->trouble = NULL; /* nobody has kept the shadow */
	}
	must(srv_check(d->srv) == NULL);
}

static void machine(const uint8_t *data, size_t size, size_t bytes)
{
	static const uint8_t limits = 0xff;
	uint8_t *state, *again = NULL;
	struct srv_drive d;
	size_t need = 0, twice;
	const char *why;

	state = malloc(bytes + 1);
	must(state != NULL);
	memcpy(state, data, bytes);
	state_mend(state, bytes);
	drive_begin(&d, &limits, 1);
	must(d.trouble == NULL);
	if (vmbus_srv_restore(d.srv, state, bytes, &why) == 0) {
		must(vmbus_srv_save(d.srv, NULL, 0, &need) == VMBUS_E_RANGE);
		d.at = data + bytes;
		d.left = size - bytes;
		use_machine(&d);
		must(vmbus_srv_save(d.srv, NULL, 0, &need) == VMBUS_E_RANGE);
		again = malloc(need);
		must(again && vmbus_srv_save(d.srv, again, need, &twice) == 0 && twice == need);
		drive_end(&d);
		drive_begin(&d, &limits, 1);
		must(vmbus_srv_restore(d.srv, again, need, &why) == 0);
	}
	must(srv_check(d.srv) == NULL);
	drive_end(&d);
	must(d.trouble == NULL);
	free(again);
	free(state);
}

/* ---- the bus ---- */

static uint32_t opens, closes;

static int taker_open(struct vmbus_chan *chan, void *ctx)
{
	(void)chan;
	(void)ctx;
	opens++;
	return 0;
}

static int taker_restore(struct vmbus_chan *chan, const void *buf, size_t bytes)
{
	const uint8_t *p = buf;
	uint32_t sum = 0;
	size_t i;

	(void)chan;
	for (i = 0; i < bytes; i++)
		sum += p[i]; /* all of it is there */
	if (sum % 5 == 4)
		return VMBUS_E_INVAL;
	opens++;
	return 0;
}

static int taker_save(struct vmbus_chan *chan, void *buf, size_t bytes)
{
	(void)chan;
	must(bytes >= 8);
	memset(buf, 1, 8);
	return 8;
}

static int taker_close(struct vmbus_chan *chan)
{
	(void)chan;
	closes++;
	must(closes <= opens);
	return 0;
}

/* Of the class of the device that the states of tests/saved are about. */
static const struct vmbus_vsp taker_vsp = {
	.struct_bytes = sizeof(taker_vsp),
	.name = "taker",
	.class_id = VMBUS_GUID(0x1c6e0e0fu, 0x0001, 0x4a11, 0x80, 0x01, 0, 0, 0, 0, 0, 2),
	.open = taker_open,
	.packets = fake_echo_packets,
	.close = taker_close,
	.save = taker_save,
	.restore = taker_restore,
};

static struct vmbus_ic *create(struct fake *f, bool echo)
{
	struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts) };
	static struct fake_echo ctx;
	struct vmbus_ic *ic = NULL;

	f->opts.limits = (struct vmbus_srv_opts){ .struct_bytes = sizeof(f->opts.limits),
						  .chans_max = 12,
						  .gpadls_max = 16,
						  .version_max = VMBUS_PROTO_6_0,
						  .features = 0x2f };
	opens = closes = 0;
	fake_create(f);
	opts.instance_id.b[0] = 1;
	must(vmbus_bus_offer(f->bus, echo ? vmbus_echo_vsp() : &taker_vsp, &ctx, &opts, NULL) == 0);
	opts.instance_id.b[0] = 2;
	must(vmbus_bus_offer(f->bus, &taker_vsp, &ctx, &opts, NULL) == 0);
	must(vmbus_ic_create(f->bus, NULL, &ic) == 0);
	return ic;
}

static void destroy(struct fake *f, struct vmbus_ic *ic)
{
	vmbus_bus_destroy(f->bus);
	vmbus_ic_destroy(ic);
	must(opens == closes);
	must_eq(vmbus_region_pins(&f->region), 0);
}

static void run(struct fake *f)
{
	uint32_t i;

	for (i = 0; i < 200 && vmbus_bus_dispatch(f->bus, 16) > 0; i++)
		f->taken = f->posted = 0;
	f->taken = f->posted = 0;
}

/* Words of the child's memory: page, word of it, value; now and then a turn of the bus. */
static void poke(struct fake *f, const uint8_t *data, size_t size)
{
	uint32_t n;

	for (n = 0; size >= 7; n++, data += 7, size -= 7) {
		const size_t at = (data[0] % PAGES) * FAKE_PAGE +
				  ((size_t)data[1] | (size_t)data[2] << 8) % 1024u * 4u;

		memcpy(f->mem + at, data + 3, 4);
		if (n % 64 == 63 && f->bus)
			run(f);
	}
}

static void say(struct fake *f, uint32_t type, uint32_t relid)
{
	struct vmbus_ctl ctl = { .type = type };

	ctl.u.chan.relid = relid;
	(void)fake_try_post(f, VMBUS_CONN_MESSAGE, &ctl);
	run(f);
}

/* Saved again, it has to be taken again. */
static void once_more(struct fake *f, struct vmbus_ic **ic, bool echo)
{
	size_t need = 0, twice = 0;
	char why[160];
	uint8_t *state;
	int err = vmbus_bus_save(f->bus, NULL, 0, &need);

	if (err != VMBUS_E_RANGE) {
		must(err == VMBUS_E_AGAIN);
		return;
	}
	state = malloc(need);
	must(state && vmbus_bus_save(f->bus, state, need, &twice) == 0 && twice == need);
	destroy(f, *ic);
	*ic = create(f, echo);
	err = vmbus_bus_restore(f->bus, state, need, why, sizeof(why));
	must(err == 0);
	run(f);
	free(state);
}

/* The machine's own state, in a section, has a checksum of its own. */
static void mend_bus(uint8_t *state, size_t bytes)
{
	size_t at, len = 0;

	if (bytes < VMBUS__STATE_HEAD)
		return;
	at = state_section(state, bytes, 2, &len);
	if (at)
		state_mend(state + at + VMBUS__SECTION_HEAD, len);
	state_mend(state, bytes);
}

static void bus(const uint8_t *data, size_t size, size_t bytes, bool echo)
{
	struct fake f;
	struct vmbus_ic *ic;
	char why[160];
	uint8_t *state;
	uint32_t i;

	state = malloc(bytes + 1);
	must(state != NULL);
	memcpy(state, data, bytes);
	mend_bus(state, bytes);
	fake_prepare(&f, PAGES);
	poke(&f, data + bytes, size - bytes);
	ic = create(&f, echo);
	if (vmbus_bus_restore(f.bus, state, bytes, why, sizeof(why)) == 0) {
		run(&f);
		once_more(&f, &ic, echo);
		poke(&f, data + bytes, size - bytes);
		for (i = 1; i < 6; i++) {
			say(&f, i % 2 ? VMBUS_CTL_CLOSE : VMBUS_CTL_RELID_RELEASED, i);
			(void)vmbus_bus_signal_event(f.bus, 0x2000 + i, 0);
		}
		once_more(&f, &ic, echo);
		say(&f, VMBUS_CTL_UNLOAD, 0);
		once_more(&f, &ic, echo);
	} else {
		must(why[0] != '\0');
		must(vmbus_bus_dispatch(f.bus, 1) == VMBUS_E_STATE);
	}
	destroy(&f, ic);
	f.bus = NULL;
	munmap(f.mem, f.pages * FAKE_PAGE);
	close(f.fd);
	free(f.posts);
	free(state);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t bytes;

	if (size < 5 || size > STATE_MAX)
		return 0;
	bytes = (size_t)data[1] | (size_t)data[2] << 8 | (size_t)(data[3] & 3) << 16;
	bytes = bytes < size - 5 ? bytes : size - 5;
	if (data[0] % 2)
		bus(data + 5, size - 5, bytes, data[0] / 2 % 2);
	else
		machine(data + 5, size - 5, bytes);
	return 0;
}
