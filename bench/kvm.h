/* SPDX-License-Identifier: MIT */
/*
 * The sub-command kvm: a payload under vmbus-vmm, and what each packet costs in exits.  Shared by its
 * files.
 */
#ifndef BENCH_KVM_H
#define BENCH_KVM_H

#include "bench.h"
#include "results.h"

#define KVM_SERIES_MAX 64u
#define KVM_CHANNELS_MAX 2047u
#define KVM_RUNS_MAX 16u

/* The sub-command: what was asked for, what this machine can, what came out. */
struct kvm_bench {
	struct options opts; /* for the report */
	struct results results;
	const char *vmm, *payload;
	const char *kernel, *initrd, *append; /* --boot-* */
	char vmm_path[512], payload_path[512];
	struct list channels, windows, payloads;
	uint32_t packets;
	bool way[2]; /* user, kernel */
	bool can[2];
	bool slow[2];
	bool missed; /* a goal */
};

/* What to start. */
struct kvm_start {
	const char *vmm;
	const char *kernel; /* the payload, or a kernel that makes a mark when it is up */
	const char *initrd; /* or NULL */
	const char *append;
	const char *way; /* kernel or user */
	uint32_t mem_mib;
	uint32_t devices; /* echo channels offered; 0: none */
	uint32_t timeout_s;
	bool ic; /* with integration components */
};

/* One series of packets, between two marks. */
struct kvm_series {
	uint32_t channels, active, window, payload;
	uint64_t packets, ns;
	uint64_t guest_interrupts, signals, halts;	   /* as the payload counted */
	bool counted;					   /* KVM's counters are there */
	uint64_t exits, host_exits, injected, interpreted; /* KVM's */
	uint64_t user_exits, user_signals, asked;	   /* vmbus-vmm's */
};

struct kvm_outcome {
	struct kvm_series series[KVM_SERIES_MAX];
	uint32_t count;
	double boot_ns; /* 0: no mark */
	double overhead_bytes;
	char error[256]; /* why it failed: the last line that it wrote */
};

/* Run it.  Returns 0, or -1 with outcome->error. */
int kvm_run(const struct kvm_start *start, struct kvm_outcome *outcome);

/* Fill the options; leaves the program on a bad one. */
void kvm_options(struct kvm_bench *kb, int argc, char **argv);

int kvm_main(int argc, char **argv);

#endif
