/* SPDX-License-Identifier: MIT */
/* vmbus-bench: picks the sub-command. */
#include "bench.h"
#include "block_run.h"
#include "chan_pair.h"
#include "channel.h"
#include "isolation.h"
#include "kvm.h"
#include "net_run.h"
#include "resume.h"
#include "ring.h"
#include "soak.h"
#include "subject.h"

#include <vmbus/version.h>

#include <stdio.h>

static int usage(FILE *to)
{
	fputs("usage: vmbus-bench ring [options]   measure the ring; ring --help tells more\n"
	      "       vmbus-bench channel [options]  measure channels; channel --help tells more\n"
	      "       vmbus-bench kvm [options]    count exits of a guest; kvm --help tells more\n"
	      "       vmbus-bench isolation [options]  what honest children get beside a hostile "
	      "one\n"
	      "       vmbus-bench resume [options] how long a device's death or replacement is "
	      "felt\n"
	      "       vmbus-bench block [options]  disks beside what people use today; block "
	      "--help\n"
	      "       vmbus-bench net [options]    network cards beside what people use today; net "
	      "--help\n"
	      "       vmbus-bench soak [options]   for an hour, with kills and hot-plug; soak "
	      "--help\n"
	      "       vmbus-bench --list           name the subjects and what this build has\n"
	      "       vmbus-bench --version\n"
	      "       vmbus-bench --help\n",
	      to);
	return to == stdout ? BENCH_EXIT_OK : BENCH_EXIT_USAGE;
}

static void list_block(void)
{
	for (uint32_t i = 0; i < block_entry_count; i++) {
		const struct block_entry *const e = &block_entries[i];

		if (e->subject)
			printf("%-20s %-12s %s\n", e->name, e->subject->version(),
			       e->subject->what);
		else
			printf("%-20s %-12s needs %s when this is built\n", e->name, "missing",
			       e->package);
	}
}

static void list_net(void)
{
	for (uint32_t i = 0; i < net_entry_count; i++) {
		const struct net_entry *const e = &net_entries[i];

		if (e->subject && !e->huge)
			printf("%-20s %-12s %s\n", e->name, e->subject->version(),
			       e->subject->what);
		else if (e->subject)
			printf("%-20s %-12s the same in huge pages\n", e->name,
			       e->subject->version());
	}
}

static int list(void)
{
	printf("%-20s %-12s %s\n", subject_vmbus.name, subject_vmbus.version(), subject_vmbus.what);
	printf("%-20s %-12s %s\n", subject_channel.name, subject_channel.version(),
	       subject_channel.what);
	printf("%-20s %-12s %s\n", subject_channel_each.name, subject_channel_each.version(),
	       subject_channel_each.what);
	for (unsigned i = 0; i < peer_count; i++) {
		const struct subject *subject = peers[i].subject;

		if (subject)
			printf("%-20s %-12s %s\n", peers[i].name, subject->version(),
			       peers[i].what);
		else
			printf("%-20s %-12s %s; needs %s when this is built\n", peers[i].name,
			       "missing", peers[i].what, peers[i].package);
	}
	printf("%-20s %-12s %s\n", subject_limit_copy.name, "-", subject_limit_copy.what);
	printf("%-20s %-12s %s\n", "limit.line_rtt", "-", "round trip through one line");
	printf("%-20s %-12s %s\n", "limit.two_line_rtt", "-",
	       "round trip through a line for each direction");
	printf("%-20s %-12s %s\n", "limit.eventfd", "-", "wake-up through an eventfd");
	printf("%-20s %-12s %s\n", "limit.fence", "-", "what a full fence adds to a store");
	list_block();
	list_net();
	return BENCH_EXIT_OK;
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return usage(stderr);
	if (!strcmp(argv[1], "ring")) {
		argv[1] = argv[0];
		return ring_main(argc - 1, argv + 1);
	}
	if (!strcmp(argv[1], "channel")) {
		argv[1] = argv[0];
		return channel_main(argc - 1, argv + 1);
	}
	if (!strcmp(argv[1], "kvm")) {
		argv[1] = argv[0];
		return kvm_main(argc - 1, argv + 1);
	}
	if (!strcmp(argv[1], "isolation")) {
		argv[1] = argv[0];
		return isolation_main(argc - 1, argv + 1);
	}
	if (!strcmp(argv[1], "resume")) {
		argv[1] = argv[0];
		return resume_main(argc - 1, argv + 1);
	}
	if (!strcmp(argv[1], "block")) {
		argv[1] = argv[0];
		return block_main(argc - 1, argv + 1);
	}
	if (!strcmp(argv[1], "net")) {
		argv[1] = argv[0];
		return net_main(argc - 1, argv + 1);
	}
	if (!strcmp(argv[1], "soak")) {
		argv[1] = argv[0];
		return soak_main(argc - 1, argv + 1);
	}
	if (!strcmp(argv[1], "--list"))
		return list();
	if (!strcmp(argv[1], "--help"))
		return usage(stdout);
	if (!strcmp(argv[1], "--version")) {
		printf("vmbus-bench %s, libvmbus %s\n", VMBUS_VERSION_STRING,
		       vmbus_version_string());
		return BENCH_EXIT_OK;
	}
	fprintf(stderr, "vmbus-bench: %s: no such sub-command\n", argv[1]);
	return usage(stderr);
}
