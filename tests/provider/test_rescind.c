/* SPDX-License-Identifier: MIT */
/* A device of a provider that ends with all its sub-channels at once: its provider lives on. */
#include "world.h"

#define SUBS 64u

static int many_open(struct vmbus_chan *chan, void *ctx)
{
	struct vmbus_chan_info info;

	vmbus_chan_info(chan, &info);
	if (info.sub_index)
		return 0;
	(void)vmbus_chan_offer_subchannels(chan, SUBS);
	return plain_open(chan, ctx);
}

/* After some packets the child "breaks a rule" on its primary channel. */
static void many_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	static uint64_t packets;
	struct vmbus_chan_info info;

	vmbus_chan_info(chan, &info);
	plain_packets(chan, pkt, n);
	packets += info.sub_index ? 0 : n;
	if (packets < 4000 || info.sub_index)
		return;
	packets = 0;
	vmbus_chan_fail(chan, "wanted");
}

static const struct vmbus_vsp many_vsp = {
	.struct_bytes = sizeof(many_vsp),
	.name = "many",
	.class_id = VMBUS_ECHO_CLASS,
	.max_payload = VMBUS_ECHO_PAYLOAD_MAX,
	.open = many_open,
	.packets = many_packets,
	.close = plain_close,
};

START_TEST(provider_dispatch__lives_on_when_many_channels_end_at_once)
{
	struct world w;

	world_init(&w);
	world_provider(&w, 0, &many_vsp, false);
	world_child(&w, 0);
	world_until(&w, w.shared->opened >= 4);
	must_eq(waitpid(w.providers[0], NULL, WNOHANG), 0);
	must(world_info(&w)->present);
	must_eq(w.info.pid, w.providers[0]);
	world_stop_children(&w);
	world_fini(&w);
}
END_TEST

static int nested_attach(void *ctx, const struct vmbus_provider_info *info)
{
	struct world *const w = ctx;

	(void)info;
	w->listed = 77;
	must_eq(vmbus_provider_host_dispatch(w->host, 64), VMBUS_E_STATE);
	vmbus_provider_host_destroy(w->host); /* does nothing */
	return 0;
}

/* Also where providers come by the children's socket. */
START_TEST(provider_host__attach_is_a_callback)
{
	struct world w;

	world_prepare(&w);
	w.opts.attach = nested_attach;
	world_start(&w);
	world_provider(&w, 0, &plain_vsp, false);
	world_until(&w, w.listed == 77);
	world_child(&w, 0);
	world_until(&w, received(&w) > 2000);
	world_stop_children(&w);
	world_fini(&w);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "rescind", 60);

	tcase_add_test(tc, provider_dispatch__lives_on_when_many_channels_end_at_once);
	tcase_add_test(tc, provider_host__attach_is_a_callback);
}

VMBUS_TEST_MAIN("provider.rescind", tests)
