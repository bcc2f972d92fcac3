/* SPDX-License-Identifier: MIT */
/*
 * The client machine against a parent whose every message is input, and a caller whose every call is.
 * After each step the invariants of cli_check.h; at the end every request was answered once, and
 * page numbers were read only while they had to be there.
 *
 * Input: a byte of configuration, then steps, each a byte and what it needs.
 */
#include "fuzz/input.h"

#define CLI_CHECK_FAIL(text)                                                                       \
	do {                                                                                       \
		(void)fprintf(stderr, "not true: %s\n", text);                                     \
		abort();                                                                           \
	} while (0)
#include "channel/cli_check.h"

#define CHANS 3u
#define LISTS 4u

enum step {
	CONNECT,
	UNLOAD,
	DISCONNECT,
	PAUSE,
	RESUME,
	GPADL,
	TEARDOWN,
	OPEN,
	CLOSE,
	MODIFY,
	RELEASE,
	TL,
	CONNECTION,
	NEXT,
	POSTED,
	GO_ON, /* take everything, posting well */
	RAW,   /* a message byte by byte */
	SAY,   /* a message with numbers that mean something */
	STEPS
};

struct world {
	struct vmbus_cli *cli;
	uint64_t *pfns[LISTS];
	uint32_t making[LISTS];
	int64_t opens, lists, modifies, connection, tl; /* asked for and not answered */
};

static const uint32_t versions[] = { VMBUS_PROTO_6_0, VMBUS_PROTO_5_3, VMBUS_PROTO_5_0,
				     VMBUS_PROTO_4_1, VMBUS_PROTO_4_0, VMBUS_PROTO_2_4 };

static void made(struct world *w, uint32_t slot)
{
	MUST(w->pfns[slot]);
	free(w->pfns[slot]); /* from now on a sanitizer sees who reads it */
	w->pfns[slot] = NULL;
	w->making[slot] = 0;
}

static void told(struct world *w, const struct vmbus_cli_action *a)
{
	switch (a->act) {
	case VMBUS_CLI_POST:
		MUST(a->len >= 8 && a->len <= VMBUS_CTL_BYTES_MAX);
		MUST(a->conn_id != 0 && a->conn_id < 1u << 24);
		break;
	case VMBUS_CLI_OPENED:
		w->opens--;
		break;
	case VMBUS_CLI_GPADL_READY:
		made(w, a->list.slot);
		w->lists -= a->status != 0;
		break;
	case VMBUS_CLI_GPADL_LOST:
	case VMBUS_CLI_GPADL_GONE:
		if (w->making[a->list.slot] == a->list.gen)
			made(w, a->list.slot);
		w->lists--;
		break;
	case VMBUS_CLI_MODIFIED:
		w->modifies--;
		break;
	case VMBUS_CLI_TL_RESULT:
		w->tl--;
		break;
	default:
		MUST(a->act >= VMBUS_CLI_POST && a->act <= VMBUS_CLI_CONNECTION_MODIFIED);
		break;
	}
}

static bool next(struct world *w, struct vmbus_cli_action *a)
{
	const int ret = vmbus_cli_next(w->cli, a);

	MUST(ret == 0 || ret == 1);
	if (ret == 1)
		told(w, a);
	return ret == 1;
}

static struct vmbus_cli_ref chan_ref(const struct world *w, uint32_t n)
{
	const uint32_t slot = n % (CHANS + 1);

	return (struct vmbus_cli_ref){ slot, slot < CHANS ? w->cli->chans[slot].gen - n / 128 : n };
}

static struct vmbus_cli_ref list_ref(const struct world *w, uint32_t n)
{
	const uint32_t slot = n % (LISTS + 1);

	return (struct vmbus_cli_ref){ slot, slot < LISTS ? w->cli->lists[slot].id - n / 128 : n };
}

static void describe(struct world *w, struct input *in)
{
	const struct vmbus_cli_ref chan = chan_ref(w, take(in, 1));
	const uint32_t pages = take(in, 1) * (take(in, 1) % 3 + 1);
	uint64_t *const pfns = malloc(pages * sizeof(*pfns) + 1);
	struct vmbus_cli_ref list;
	uint32_t i;

	MUST(pfns);
	for (i = 0; i < pages; i++)
		pfns[i] = i;
	if (vmbus_cli_gpadl(w->cli, chan, pfns, pages, &list)) {
		free(pfns);
		return;
	}
	MUST(!w->pfns[list.slot]);
	w->pfns[list.slot] = pfns;
	w->making[list.slot] = list.gen;
	w->lists++;
}

static void open_one(struct world *w, struct input *in)
{
	const struct vmbus_cli_ref chan = chan_ref(w, take(in, 1));
	const struct vmbus_cli_open open = { .list = list_ref(w, take(in, 1)),
					     .downstream_page = take(in, 1) };

	w->opens += vmbus_cli_open(w->cli, chan, &open) == 0;
}

static void connect_tl(struct world *w, struct input *in)
{
	struct vmbus_ctl_tl tl = { .has_silo = take(in, 1) % 2 };

	tl.endpoint_id.b[0] = (uint8_t)take(in, 1);
	if (vmbus_cli_tl_connect(w->cli, &tl) == 0)
		w->tl++;
}

static void say_raw(struct world *w, struct input *in)
{
	const uint32_t len = take(in, 1);
	uint8_t *const bytes = malloc(len + 1);
	uint32_t i;

	MUST(bytes);
	for (i = 0; i < len; i++)
		bytes[i] = (uint8_t)take(in, 1);
	(void)vmbus_cli_message(w->cli, bytes, len);
	free(bytes);
}

static void fill(const struct world *w, struct input *in, struct vmbus_ctl *ctl)
{
	const uint32_t relid = take(in, 1) % 5, which = take(in, 1), status = take(in, 1) % 2;

	switch (ctl->type) {
	case VMBUS_CTL_OFFER:
		ctl->u.offer.relid = relid;
		ctl->u.offer.instance_id.b[0] = (uint8_t)(which % 4);
		ctl->u.offer.sub_index = (uint16_t)(which / 4 % 3);
		ctl->u.offer.flags = which & 128 ? VMBUS_OFFER_TLNPI : 0;
		break;
	case VMBUS_CTL_OPEN_RESULT:
		ctl->u.result.relid = relid;
		ctl->u.result.open_id = w->cli->next_open_id - which % 3;
		ctl->u.result.status = status;
		break;
	case VMBUS_CTL_GPADL_CREATED:
	case VMBUS_CTL_GPADL_TORNDOWN:
		ctl->u.created.relid = relid;
		ctl->u.created.gpadl = list_ref(w, which).gen;
		ctl->u.created.status = status;
		break;
	case VMBUS_CTL_VERSION_RESPONSE:
		ctl->u.version.supported = (uint8_t)status;
		ctl->u.version.conn_id = which;
		ctl->u.version.features = UINT32_MAX;
		ctl->u.version.state = relid == 4;
		break;
	case VMBUS_CTL_TL_RESULT:
		ctl->u.tl.endpoint_id.b[0] = (uint8_t)which;
		ctl->u.tl.status = status;
		break;
	case VMBUS_CTL_MODIFY_RESPONSE:
		ctl->u.modify.relid = relid;
		ctl->u.modify.status = status;
		break;
	default:
		ctl->u.chan.relid = relid;
		break;
	}
}

static void say(struct world *w, struct input *in)
{
	struct vmbus_ctl ctl = { .type = take(in, 1) % VMBUS_CTL_TYPES };
	uint8_t bytes[VMBUS_CTL_BYTES_MAX];
	int len;

	fill(w, in, &ctl);
	len = vmbus_ctl_encode(&ctl, w->cli->version, w->cli->features, bytes, sizeof(bytes));
	if (len > 0)
		(void)vmbus_cli_message(w->cli, bytes, (size_t)len);
}

static void go_on(struct world *w)
{
	struct vmbus_cli_action a;
	uint32_t n = 0;

	while (next(w, &a)) {
		MUST(++n < 4096);
		if (a.act == VMBUS_CLI_POST)
			MUST(vmbus_cli_posted(w->cli, 0) == 0);
	}
}

static void step(struct world *w, struct input *in)
{
	static const uint32_t statuses[] = { 0, 0, 0x13, 0x12, 0x0b, 0x05 };
	struct vmbus_cli_action a;

	switch (take(in, 1) % STEPS) {
	case CONNECT:
		(void)vmbus_cli_connect(w->cli);
		break;
	case UNLOAD:
		(void)vmbus_cli_unload(w->cli);
		break;
	case DISCONNECT:
		vmbus_cli_disconnect(w->cli);
		break;
	case PAUSE:
		(void)vmbus_cli_pause(w->cli);
		break;
	case RESUME:
		(void)vmbus_cli_resume(w->cli);
		break;
	case GPADL:
		describe(w, in);
		break;
	case TEARDOWN:
		(void)vmbus_cli_gpadl_teardown(w->cli, list_ref(w, take(in, 1)));
		break;
	case OPEN:
		open_one(w, in);
		break;
	case CLOSE:
		(void)vmbus_cli_close(w->cli, chan_ref(w, take(in, 1)));
		break;
	case MODIFY:
		w->modifies += vmbus_cli_modify(w->cli, chan_ref(w, take(in, 1)), 1) == 0;
		break;
	case RELEASE:
		(void)vmbus_cli_release(w->cli, chan_ref(w, take(in, 1)));
		break;
	case TL:
		connect_tl(w, in);
		break;
	case CONNECTION:
		(void)vmbus_cli_modify_connection(w->cli, 0x1000, 0x2000);
		break;
	case NEXT:
		(void)next(w, &a);
		break;
	case POSTED:
		(void)vmbus_cli_posted(w->cli, statuses[take(in, 1) % 6]);
		break;
	case GO_ON:
		go_on(w);
		break;
	case RAW:
		say_raw(w, in);
		break;
	default:
		say(w, in);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static _Alignas(16) uint8_t storage[32768];
	struct input in = { data, size };
	const uint32_t how = take(&in, 1);
	struct vmbus_cli_opts opts = { .struct_bytes = sizeof(opts),
				       .chans_max = CHANS,
				       .gpadls_max = LISTS,
				       .queue_max = 2 + how / 6 % 8,
				       .version_max = versions[how % 6] };
	struct world w = { 0 };
	uint32_t steps = 0;

	opts.features = how % 6 == 0 ? VMBUS_FEATURE_PAUSE | VMBUS_FEATURE_MODIFY_CONNECTION : 0;
	MUST(vmbus_cli_bytes(&opts) <= sizeof(storage));
	MUST(vmbus_cli_init(storage, sizeof(storage), &opts, &w.cli) == 0);
	while (in.left && steps++ < 2000) {
		step(&w, &in);
		cli_check(w.cli);
	}
	cli_check_relids(w.cli);
	vmbus_cli_disconnect(w.cli);
	cli_check(w.cli);
	if (w.cli->posting)
		MUST(vmbus_cli_posted(w.cli, 0) == 0);
	go_on(&w);
	cli_check(w.cli);
	cli_check_relids(w.cli);
	MUST(w.opens == 0 && w.lists == 0 && w.modifies == 0);
	MUST(w.tl >= 0); /* what is left was answered by offers, or needs no answer */
	MUST(w.cli->lists_used == 0);
	return 0;
}
