/* SPDX-License-Identifier: MIT */
/* The report: how the guest ended, and what it cost.  JSON, "vmbus-vmm-report/1"; vmbus-vmm(1). */
#include "vmm.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int vmm_report_open(struct vmm *vmm)
{
	vmm->status_fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	vmm->report_fd = -1;
	if (!vmm->opts.report)
		return 0;
	vmm->report_fd = open(vmm->opts.report, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (vmm->report_fd < 0)
		return vmm_errno("--report %s", vmm->opts.report);
	return 0;
}

static uint64_t status_kib(const char *text, const char *key)
{
	const char *const at = strstr(text, key);

	return at ? strtoull(at + strlen(key), NULL, 10) : 0;
}

/*
 * Resident memory that is not the guest's: anonymous pages, and those of files, libraries included.
 * The guest's are shared memory, and counted neither there nor twice.
 */
uint64_t vmm_overhead(const struct vmm *vmm)
{
	char text[4096];
	const ssize_t n = pread(vmm->status_fd, text, sizeof(text) - 1, 0);

	if (n <= 0)
		return 0;
	text[n] = 0;
	return (status_kib(text, "RssAnon:") + status_kib(text, "RssFile:")) * 1024u;
}

static const char *end_name(enum vmm_end end)
{
	static const char *const names[] = { "poweroff", "error",  "usage", "crash",  "reset",
					     "timeout",	 "killed", "stuck", "filter", "saved" };

	return names[end];
}

static void text(FILE *out, const char *key, const char *value)
{
	fprintf(out, "\t\"%s\": \"", key);
	for (; *value; value++) {
		if (*value == '"' || *value == '\\')
			fprintf(out, "\\%c", *value);
		else if ((unsigned char)*value < 0x20 || (unsigned char)*value >= 0x7f)
			fprintf(out, "\\u%04x", (unsigned char)*value);
		else
			fputc(*value, out);
	}
	fputs("\",\n", out);
}

static void bus_stats(FILE *out, const struct vmbus_kvm_stats *s)
{
	const struct {
		const char *name;
		uint64_t value;
	} all[] = { { "exits", s->exits },
		    { "exits_msr", s->exits_msr },
		    { "exits_hypercall", s->exits_hypercall },
		    { "exits_signal", s->exits_signal },
		    { "exits_synic", s->exits_synic },
		    { "bad", s->bad },
		    { "interrupts", s->interrupts },
		    { "messages", s->messages },
		    { "slots_busy", s->slots_busy },
		    { "bound", s->bound } };
	size_t i;

	fputs("\"stats\": {", out);
	for (i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		fprintf(out, "%s\"%s\": %llu", i ? ", " : "", all[i].name,
			(unsigned long long)all[i].value);
	fputs("}", out);
}

static void kvm_stats(FILE *out, const struct vmm_stats *stats, const uint64_t *values)
{
	uint32_t i;

	fputs("\"kvm\": {", out);
	for (i = 0; i < stats->names; i++)
		fprintf(out, "%s\"%s\": %llu", i ? ", " : "", stats->name[i],
			(unsigned long long)values[i]);
	fputs("}", out);
}

static void marks(FILE *out, const struct vmm_stats *stats)
{
	uint32_t i;

	fprintf(out, "\t\"marks_lost\": %u,\n\t\"marks\": [", stats->marks_lost);
	for (i = 0; i < stats->mark_count; i++) {
		const struct vmm_mark *const m = stats->marks[i];

		fprintf(out, "%s\n\t\t{\"id\": %u, \"time_ns\": %llu, ", i ? "," : "", m->id,
			(unsigned long long)m->time_ns);
		kvm_stats(out, stats, m->kvm);
		fputs(", ", out);
		bus_stats(out, &m->stats);
		fputs("}", out);
	}
	fputs(i ? "\n\t]\n" : "]\n", out);
}

static void machine(FILE *out, struct vmm *vmm)
{
	const struct vmm_stats *const stats = &vmm->stats;

	fprintf(out, "\t\"synic\": \"%s\",\n\t\"cpus\": %u,\n\t\"resets\": %u,\n",
		vmbus_kvm_way(vmm->kvm) == VMBUS_KVM_KERNEL ? "kernel" : "user", vmm->vcpu_count,
		vmm->resets);
	if (stats->mark_count)
		fprintf(out, "\t\"boot_ns\": %llu,\n",
			(unsigned long long)stats->marks[0]->time_ns);
	else
		fputs("\t\"boot_ns\": null,\n", out);
	fprintf(out, "\t\"run_ns\": %llu,\n", (unsigned long long)(vmm_now_ns() - vmm->start_ns));
	fprintf(out, "\t\"guest_bytes\": %llu,\n", (unsigned long long)vmm->memory.bytes);
	fprintf(out, "\t\"resident_bytes\": %llu,\n",
		(unsigned long long)vmm_memory_resident(&vmm->memory));
	fprintf(out, "\t\"overhead_bytes\": %llu,\n", (unsigned long long)vmm_overhead(vmm));
	fprintf(out, "\t\"unclaimed\": %llu,\n\t\"serial_dropped\": %llu,\n",
		(unsigned long long)vmm->platform.unclaimed,
		(unsigned long long)vmm->platform.serial.dropped);
}

/* The vCPUs stand still, and the bus is there. */
void vmm_report_write(struct vmm *vmm)
{
	uint64_t values[VMM_STATS_MAX];
	struct vmbus_kvm_stats stats;
	FILE *out;

	if (vmm->report_fd < 0)
		return;
	vmm_stats_read(vmm, values);
	vmbus_kvm_stats(vmm->kvm, &stats);
	out = fdopen(vmm->report_fd, "w");
	if (!out)
		return;
	fputs("{\n\t\"schema\": \"vmbus-vmm-report/1\",\n", out);
	text(out, "end", end_name(vmm->end));
	if (vmm->crash[0])
		text(out, "crash_text", vmm->crash);
	machine(out, vmm);
	fputs("\t", out);
	bus_stats(out, &stats);
	fputs(",\n\t", out);
	kvm_stats(out, &vmm->stats, values);
	fputs(",\n", out);
	marks(out, &vmm->stats);
	fputs("}\n", out);
	if (fclose(out))
		vmm_errno("--report %s", vmm->opts.report);
	vmm->report_fd = -1;
}
