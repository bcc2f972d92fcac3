/* SPDX-License-Identifier: MIT */
/* What the suites with a lying parent share. */
#ifndef VMBUS_TESTS_CHANNEL_CLIBOX_LIAR_H
#define VMBUS_TESTS_CHANNEL_CLIBOX_LIAR_H

#include "clibox.h"

/* Exactly one more message was refused, by this counter, and nothing is to be done. */
#define must_refuse(b, counter, call)                                                              \
	do {                                                                                       \
		const uint64_t was_all = clibox_refused(b), was = clibox_stats(b).counter;         \
		must_eq(call, 0);                                                                  \
		must_eq(clibox_refused(b), was_all + 1);                                           \
		must_eq(clibox_stats(b).counter, was + 1);                                         \
		clibox_take(b, 0);                                                                 \
		cli_check((b)->cli);                                                               \
	} while (0)

static const struct vmbus_cli_opts small = { .chans_max = 4,
					     .gpadls_max = 4,
					     .version_max = VMBUS_PROTO_6_0,
					     .features = VMBUS_FEATURE_PAUSE |
							 VMBUS_FEATURE_MODIFY_CONNECTION };

#endif
