/* SPDX-License-Identifier: MIT */
/*
 * vmbus-vmm: what its files share.  Three kinds of threads: one per vCPU (vcpu.c), the main thread,
 * which is the bus thread too (bus.c), and one per queue of the disks (disk.c) and of the NICs
 * (net.c), which touch nothing here but vmm->disks and the ports of vmm->nets.  All that several
 * touch is behind vmm->lock, or in serial.c, stats.c and disk.c behind locks of their own.
 */
#ifndef VMM_H
#define VMM_H

#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <linux/kvm.h>

#include <vmbus/echo.h>
#include <vmbus/ic.h>
#include <vmbus/kvm.h>
#include <vmbus/pool.h>
#include <vmbus/provider.h>
#include <vmbus/shm_bus.h>

#include "disk.h"
#include "nic.h"

/* Exit status; vmbus-vmm(1) lists them. */
enum vmm_end {
	VMM_POWEROFF = 0, /* the guest powered off */
	VMM_ERROR = 1,	  /* something here is missing or wrong */
	VMM_USAGE = 2,
	VMM_CRASH = 3,	 /* the guest reported a crash */
	VMM_RESET = 4,	 /* the guest reset itself, with --no-reboot */
	VMM_TIMEOUT = 5, /* --timeout ran out */
	VMM_KILLED = 6,	 /* second ctrl-C or SIGTERM, or quit */
	VMM_STUCK = 7,	 /* KVM cannot go on */
	VMM_FILTER = 8,	 /* the sandbox was violated */
	VMM_SAVED = 9	 /* by the command save: it goes on where it is restored */
};

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define PAGE VMBUS_PAGE_BYTES

/* ---- say.c: messages, one write each, to standard error ---- */
extern bool vmm_verbose, vmm_quiet;
void vmm_say(const char *format, ...) __attribute__((format(printf, 1, 2)));  /* progress */
void vmm_tell(const char *format, ...) __attribute__((format(printf, 1, 2))); /* with --verbose */
void vmm_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
int vmm_error(const char *format, ...) __attribute__((format(printf, 1, 2))); /* returns -1 */
int vmm_errno(const char *format, ...) __attribute__((format(printf, 1, 2))); /* and errno's text */
uint64_t vmm_now_ns(void);

/* ---- options.c ---- */
#define VMM_CPUS_MAX VMBUS_KVM_VPS_MAX
#define VMM_DEVICES_MAX 64u
#define VMM_CHANNELS_MAX 2047u
#define VMM_PROVIDERS_MAX 4u
#define VMM_DISKS_MAX 64u
#define VMM_NETS_MAX 8u

struct vmm_device {
	uint32_t count;
	uint32_t monitor_us;
	struct vmbus_guid instance; /* all zero: the bus makes one for each */
};

struct vmm_opts {
	const char *kernel, *initrd, *append;
	const char *socket, *control, *send, *send_line, *report, *serial, *restore, *record;
	uint64_t memory_bytes;
	uint32_t cpus;
	enum vmbus_kvm_way way;
	struct vmm_device devices[VMM_DEVICES_MAX];
	uint32_t device_count;
	const char *providers[VMM_PROVIDERS_MAX];
	uint32_t provider_count;
	struct disk_spec disks[VMM_DISKS_MAX];
	uint32_t disk_count;
	struct nic_spec nets[VMM_NETS_MAX];
	uint32_t net_count;
	bool no_ic, no_reboot, shaped, huge_pages, no_sandbox, verbose, quiet;
	int32_t node; /* -1: any */
	uint64_t timeout_ns;
};

/* 0: run; 1: said what was asked for, end with 0; -1: wrong, has said why. */
int vmm_options(struct vmm_opts *opts, int argc, char **argv);

/* ---- memory.c ---- */
#define VMM_LOW_END 0xC0000000u /* memory past this goes above 4 GiB */
#define VMM_MMIO_LOW 0xF8000000u
#define VMM_MMIO_LOW_BYTES 0x06C00000u

struct vmm_memory {
	uint8_t *base;
	uint64_t bytes, low_bytes;
	int fd;
	bool huge;
	uint32_t count;
	struct vmbus_region regions[2];
};

int vmm_memory_create(struct vmm_memory *mem, const struct vmm_opts *opts);
void vmm_memory_destroy(struct vmm_memory *mem);
int vmm_memory_zero(struct vmm_memory *mem);
/* A pointer to len bytes below 3 GiB, or NULL. */
void *vmm_memory_at(const struct vmm_memory *mem, uint64_t gpa, uint64_t len);
uint64_t vmm_memory_top(const struct vmm_memory *mem);
uint64_t vmm_memory_resident(const struct vmm_memory *mem);

/* ---- image.c: kernel and initrd, opened and checked ---- */
#define VMM_SEGMENTS_MAX 16u
#define VMM_HEADER_BYTES 4096u

struct vmm_segment {
	uint64_t offset, gpa, file_bytes, memory_bytes;
};

struct vmm_image {
	int kernel_fd, initrd_fd;
	const char *kernel, *initrd, *append; /* borrowed */
	uint64_t kernel_bytes, initrd_bytes;
	bool elf;
	uint8_t header[VMM_HEADER_BYTES]; /* of a bzImage: its first bytes */
	uint32_t header_bytes;
	uint32_t segment_count;
	struct vmm_segment segments[VMM_SEGMENTS_MAX];
	uint64_t end; /* of what the kernel needs */
	uint64_t entry;
	uint64_t initrd_max; /* last address that the initrd may have */
	uint32_t append_max; /* bytes, without the zero byte */
};

int vmm_image_open(struct vmm_image *image, const struct vmm_opts *opts);
void vmm_image_close(struct vmm_image *image);
uint16_t vmm_le16(const uint8_t *p);
uint32_t vmm_le32(const uint8_t *p);
uint64_t vmm_le64(const uint8_t *p);

/* ---- boot.c: into memory ---- */
#define VMM_GDT 0x500u
#define VMM_ZERO_PAGE 0x7000u
#define VMM_STACK 0x9FF0u
#define VMM_PAGE_TABLES 0xA000u
#define VMM_CMDLINE 0x20000u
#define VMM_ACPI 0xE0000u
#define VMM_ACPI_BYTES 0x20000u /* the last 16 are not theirs */
#define VMM_BIOS 0xFFFF0u
#define VMM_KERNEL_MIN 0x100000u

/* Whether kernel and initrd have room; an error says how much they need. */
int vmm_boot_fits(const struct vmm_image *image, const struct vmm_memory *mem);
/* Load everything; memory is zero.  progress: say so. */
int vmm_boot_load(const struct vmm_image *image, struct vmm_memory *mem, uint32_t cpus,
		  bool progress);

/* ---- aml.c: bytes of the ACPI machine language ---- */
struct vmm_aml {
	uint8_t *buf;
	uint32_t room, used;
	bool full;
};

void vmm_aml_bytes(struct vmm_aml *aml, const void *bytes, uint32_t count);
void vmm_aml_byte(struct vmm_aml *aml, uint8_t byte);
void vmm_aml_name(struct vmm_aml *aml, const char *name4);
void vmm_aml_integer(struct vmm_aml *aml, uint32_t value);
void vmm_aml_string(struct vmm_aml *aml, const char *text);
void vmm_aml_eisa(struct vmm_aml *aml, const char *id7);
/* begin() returns a place for end(), which puts the length of what came between there. */
uint32_t vmm_aml_scope(struct vmm_aml *aml, const char *name4);
uint32_t vmm_aml_device(struct vmm_aml *aml, const char *name4);
uint32_t vmm_aml_package(struct vmm_aml *aml, uint8_t elements);
uint32_t vmm_aml_method(struct vmm_aml *aml, const char *name4);
void vmm_aml_end(struct vmm_aml *aml, uint32_t place);
/* Name(_CRS, Buffer): resources between begin and end. */
uint32_t vmm_aml_crs(struct vmm_aml *aml);
void vmm_aml_crs_end(struct vmm_aml *aml, uint32_t place);
void vmm_aml_memory32(struct vmm_aml *aml, uint32_t start, uint32_t bytes);
void vmm_aml_memory64(struct vmm_aml *aml, uint64_t start, uint64_t bytes);
void vmm_aml_io(struct vmm_aml *aml, uint16_t port, uint8_t count);
void vmm_aml_irq(struct vmm_aml *aml, uint32_t gsi);

/* ---- acpi.c ---- */
#define VMM_PORT_POWER 0x600u /* ACPI sleep control, sleep status, reset */
#define VMM_PORT_MARK 0x604u
#define VMM_SERIAL_PORT 0x3F8u
#define VMM_SERIAL_IRQ 4u

/* Write all tables for address VMM_ACPI; returns their bytes, 0: no room. */
uint32_t vmm_acpi_write(uint8_t *at, uint32_t room, uint32_t cpus, uint64_t memory_top);

/* ---- serial.c: a 16550 at 0x3F8, IRQ 4 ---- */
#define VMM_SERIAL_OUT 65536u
#define VMM_SERIAL_IN 64u

struct vmm_serial {
	pthread_mutex_t lock;
	uint8_t ier, lcr, mcr, scratch, dll, dlm;
	bool fifo, thr_irq, line;
	void (*irq)(void *ctx, bool level); /* called with the lock held */
	void (*wake)(void *ctx);	    /* there is output, and there was none */
	void *ctx;
	uint32_t out_head, out_count, in_head, in_count;
	uint64_t dropped;
	uint8_t in[VMM_SERIAL_IN];
	uint8_t out[VMM_SERIAL_OUT];
};

void vmm_serial_init(struct vmm_serial *serial);
void vmm_serial_reset(struct vmm_serial *serial);
uint8_t vmm_serial_read(struct vmm_serial *serial, uint32_t reg);
void vmm_serial_write(struct vmm_serial *serial, uint32_t reg, uint8_t value);
uint32_t vmm_serial_room(struct vmm_serial *serial); /* bytes of input that it takes */
void vmm_serial_input(struct vmm_serial *serial, const uint8_t *bytes, uint32_t count);
uint32_t vmm_serial_output(struct vmm_serial *serial, uint8_t *to, uint32_t room);
bool vmm_serial_waiting(struct vmm_serial *serial); /* there is output */

/* ---- platform.c: ports that are not the bus's ---- */
enum vmm_port_event {
	VMM_PORT_NONE = 0,
	VMM_PORT_OFF,
	VMM_PORT_RESET,
	VMM_PORT_MARKED
};

struct vmm_platform {
	struct vmm_serial serial;
	pthread_mutex_t lock; /* of what follows */
	uint8_t cmos_index;
	uint64_t unclaimed; /* accesses to ports and addresses where nothing is */
};

/* What of it a saved machine has. */
struct vmm_saved_platform {
	uint8_t ier, lcr, mcr, scratch, dll, dlm, fifo, thr_irq;
	uint8_t cmos_index, in_count, reserved[6];
	uint8_t in[VMM_SERIAL_IN];
};

void vmm_platform_init(struct vmm_platform *p);
void vmm_platform_save(struct vmm_platform *p, struct vmm_saved_platform *to);
void vmm_platform_restore(struct vmm_platform *p, const struct vmm_saved_platform *from);
void vmm_serial_save(struct vmm_serial *serial, struct vmm_saved_platform *to);
void vmm_serial_restore(struct vmm_serial *serial, const struct vmm_saved_platform *from);
void vmm_platform_unclaimed(struct vmm_platform *p);

/* One access of 1, 2 or 4 bytes. */
enum vmm_port_event vmm_port_out(struct vmm_platform *p, uint16_t port, uint32_t value);
uint32_t vmm_port_in(struct vmm_platform *p, uint16_t port, uint32_t bytes);
/* A CMOS register at a time in seconds since 1970. */
uint8_t vmm_cmos(uint8_t reg, int64_t now);

/* ---- stats.c: KVM's counters ---- */
#define VMM_STATS_MAX 160u
#define VMM_MARKS_MAX 64u

struct vmm_mark {
	uint32_t id;
	uint64_t time_ns;
	struct vmbus_kvm_stats stats;
	uint64_t kvm[VMM_STATS_MAX];
};

struct vmm_stats {
	pthread_mutex_t lock;
	uint32_t names;
	char name[VMM_STATS_MAX][48];
	uint32_t mark_count, marks_lost;
	struct vmm_mark *marks[VMM_MARKS_MAX];
};

/* ---- saved.c: the file of a saved machine ---- */
struct vmm_saved {
	uint8_t *buf;
	size_t used, room;
	uint32_t sections;
};

enum vmm_saved_type { /* never another meaning for a number */
	VMM_SAVED_MACHINE = 1,
	VMM_SAVED_DEVICE = 2, /* one for each echo device, from 0 on */
	VMM_SAVED_CPUID = 3,  /* these three: one for each vCPU */
	VMM_SAVED_VCPU = 4,
	VMM_SAVED_MSRS = 5,
	VMM_SAVED_CHIP = 6, /* three: the PICs and the I/O APIC */
	VMM_SAVED_KVM = 7,  /* vmbus_kvm_save() */
	VMM_SAVED_BUS = 8   /* vmbus_bus_save() */
};

struct vmm_saved_machine {
	uint64_t memory_bytes, clock_ns;
	uint32_t cpus, vcpu_bytes, tsc_khz, resets, no_ic;
	uint32_t disks; /* 1: there is a controller */
	uint32_t nets;	/* NICs */
	uint32_t reserved;
	struct vmm_saved_platform platform;
};

struct vmm_saved_device {
	uint8_t instance[16];
	uint32_t monitor_us, reserved;
};

/* A vCPU as KVM tells it. */
struct vmm_vcpu_state {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_lapic_state lapic;
	struct kvm_xcrs xcrs;
	struct kvm_vcpu_events events;
	struct kvm_debugregs debug;
	struct kvm_mp_state mp;
	uint32_t has_xcrs;
	uint32_t xsave[1024]; /* as struct kvm_xsave */
};

void *vmm_saved_add(struct vmm_saved *saved, uint32_t type, uint32_t index, size_t bytes);
const void *vmm_saved_put(struct vmm_saved *saved, uint32_t type, uint32_t index, const void *bytes,
			  size_t count);
int vmm_saved_write(struct vmm_saved *saved, int fd);
const char *vmm_saved_read(struct vmm_saved *saved, int fd); /* NULL, or what is wrong */
const void *vmm_saved_find(const struct vmm_saved *saved, uint32_t type, uint32_t index,
			   size_t *bytes);
void vmm_saved_free(struct vmm_saved *saved);
int vmm_write_all(int fd, const uint8_t *from, uint64_t bytes, uint64_t offset);

/* ---- the whole ---- */
struct vmm;

struct vmm_vcpu {
	struct vmm *vmm;
	uint32_t index;
	int fd, stats_fd;
	struct kvm_run *run;
	pthread_t thread;
	bool started, parked;
	bool halted;			 /* it has asked for the end; its thread's */
	struct vmm_vcpu_state *pristine; /* when it was new; reset.c */
};

#define VMM_ASK_OFF 1u
#define VMM_ASK_RESET 2u
#define VMM_ASK_CRASH 4u
#define VMM_ASK_STUCK 8u
#define VMM_ASK_OUTPUT 16u

#define VMM_CLIENTS_MAX 4u

enum vmm_out {
	VMM_OUT_OURS,	/* does not wait */
	VMM_OUT_SOCKET, /* must be told not to, each time */
	VMM_OUT_SHARED	/* may wait: others have it too */
};

/* A name in the file system that is ours to take away, from an empty root too: name.c. */
struct vmm_name {
	int folder_fd; /* -1: none */
	dev_t dev;
	ino_t ino;
};

struct vmm_provider {
	const char *path;
	struct vmbus_provider_host *host;
	struct vmm_name name;
};

/* A disk on its store. */
struct vmm_disk {
	bool used;
	uint8_t target, lun;
	struct vmbus_store store;
};

struct vmm_disks {
	struct vmbus_block *block; /* NULL: no --disk */
	struct vmbus_pool *pool;
	/* As many as a bus can have, with those that are revoked and that the guest keeps. */
	struct vmbus_chan *chans[VMM_CHANNELS_MAX];
	bool running;	      /* the pool has them */
	bool stuck;	      /* a store keeps a request: it goes with the process */
	pthread_mutex_t lock; /* of what follows: a disk may end on any thread */
	struct vmm_disk disk[VMM_DISKS_MAX];
};

/* A NIC on its port. */
struct vmm_net {
	uint32_t number;
	struct vmbus_port port;
	struct vmbus_net *net; /* NULL: there is none */
};

struct vmm_nets {
	struct vmbus_pool *pool;
	struct vmbus_chan *chans[VMM_CHANNELS_MAX]; /* of all, as those of the disks */
	bool running;				    /* the pool has the channels */
	struct vmm_net net[VMM_NETS_MAX];
};

struct vmm_client {
	int fd;
	bool last;    /* it sends no more: it goes when it has its answer */
	int files[2]; /* that came with its line, for save; -1: none */
	uint32_t used;
	char line[320];
	char *out; /* answers that it has not taken */
	size_t out_at, out_used, out_room;
};

struct vmm {
	struct vmm_opts opts;
	struct vmm_memory memory;
	struct vmm_image image;
	struct vmm_platform platform;
	struct vmm_stats stats;
	int kvm_fd, vm_fd, vm_stats_fd, event_fd, signal_fd, control_fd, report_fd, serial_fd;
	int status_fd; /* /proc/self/status */
	struct vmm_name control_name, socket_name;
	void *record; /* the flight record of the bus, or NULL */
	uint32_t run_bytes;
	struct vmm_vcpu vcpus[VMM_CPUS_MAX];
	uint32_t vcpu_count;
	struct vmbus_kvm *kvm;
	struct vmbus_bus *bus;
	struct vmbus_ic *ic;
	struct vmbus_shm_server *server;
	struct vmm_provider providers[VMM_PROVIDERS_MAX];
	struct vmm_disks disks;
	struct vmm_nets nets;
	struct vmbus_chan *chans[VMM_CHANNELS_MAX]; /* the echo devices */
	uint32_t monitor_us[VMM_CHANNELS_MAX];	    /* and what they were offered with */
	struct vmm_saved saved;			    /* --restore: what it was read from */
	struct vmm_client clients[VMM_CLIENTS_MAX];
	/* Under lock: what vCPUs and the main thread tell each other. */
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool go, quit;
	uint32_t parked;
	uint32_t asks;	  /* VMM_ASK_* */
	char crash[4097]; /* a page, which is what a guest may send, and a zero byte */
	/* Of the main thread. */
	bool asked_shutdown, sent_shutdown, crashed, ended, stdin_open;
	bool lost;	  /* heartbeats */
	uint32_t refused; /* VMBUS_IC_* */
	int out_fd;	  /* the terminal, or -1 */
	enum vmm_out out_kind;
	uint32_t pending_at, pending;
	uint8_t pending_out[4096];
	enum vmm_end end;
	uint64_t start_ns, crash_deadline_ns, deadline_ns;
	uint64_t accept_ns; /* not before it: there was no descriptor for a client */
	uint32_t resets;
};

/* ---- cpuid.c, cpu.c, reset.c: the state of a vCPU ---- */
#define VMM_CPUID_MAX 256u
int vmm_cpuid_get(struct vmm *vmm, struct kvm_cpuid_entry2 *entries, uint32_t *count);
/* What differs from one vCPU to the next; returns the new count. */
uint32_t vmm_cpuid_for(struct kvm_cpuid_entry2 *entries, uint32_t count, uint32_t cpu,
		       uint32_t cpus);
int vmm_cpu_boot(struct vmm_vcpu *vcpu); /* registers before the first instruction */
void vmm_cpu_dump(const struct vmm_vcpu *vcpu);
int vmm_vcpu_get(struct vmm_vcpu *vcpu, struct vmm_vcpu_state *to);
int vmm_vcpu_set(struct vmm_vcpu *vcpu, const struct vmm_vcpu_state *state,
		 const struct kvm_msr_entry *msrs, uint32_t count);
/* Allocated; NULL: an error that was said. */
struct kvm_msr_entry *vmm_vcpu_msrs(struct vmm *vmm, struct vmm_vcpu *vcpu, uint32_t *count);
int vmm_pristine_save(struct vmm *vmm);
int vmm_pristine_restore(struct vmm *vmm);
void vmm_pristine_free(struct vmm *vmm);

/* ---- save.c, restore.c: a whole machine ---- */
int vmm_save(struct vmm *vmm, int state_fd, int memory_fd);
int vmm_restore_open(struct vmm *vmm); /* options from the state */
int vmm_restore_memory(struct vmm *vmm);
int vmm_restore_rate(struct vmm *vmm); /* of the vCPUs' counters, before the bus asks for it */
int vmm_restore_cpuid(struct vmm_vcpu *vcpu);
int vmm_restore_devices(struct vmm *vmm);
int vmm_restore(struct vmm *vmm); /* the rest, when everything is there */

/* ---- partition.c ---- */
int vmm_partition_create(struct vmm *vmm);
void vmm_partition_destroy(struct vmm *vmm);
int vmm_partition_reset(struct vmm *vmm);

/* ---- devices.c ---- */
int vmm_devices_create(struct vmm *vmm);
void vmm_devices_destroy(struct vmm *vmm);
int vmm_devices_add_echo(struct vmm *vmm, const struct vmm_device *device, uint32_t *relid);
int vmm_devices_remove(struct vmm *vmm, uint32_t relid);
void vmm_devices_removed(void *ctx, struct vmbus_chan *chan); /* removed() of the bus */
int vmm_devices_ask_shutdown(struct vmm *vmm);

/* ---- disk.c: a controller with disks ---- */
int vmm_disks_create(struct vmm *vmm);
int vmm_disks_start(struct vmm *vmm); /* threads */
void vmm_disks_offered(void *ctx, struct vmbus_chan *sub);
void vmm_disks_removed(struct vmm *vmm, struct vmbus_chan *chan);
void vmm_disks_stop(struct vmm *vmm); /* no thread is in a channel until go */
void vmm_disks_go(struct vmm *vmm);
void vmm_disks_dispatch(struct vmm *vmm); /* while they are stopped */
int vmm_disks_let_go(struct vmm *vmm);	  /* of the guest's rings: before memory is emptied */
int vmm_disks_command(struct vmm *vmm, const char *line, int fd, char *answer, size_t bytes);
void vmm_disks_list(struct vmm *vmm, void (*tell)(void *ctx, const char *line), void *ctx);
void vmm_disks_destroy(struct vmm *vmm);

/* ---- net.c: NICs ---- */
int vmm_nets_open(struct vmm *vmm); /* their ports, before all else */
int vmm_nets_create(struct vmm *vmm);
uint32_t vmm_nets_roles(const struct vmm *vmm);
int vmm_nets_start(struct vmm *vmm);				/* threads */
bool vmm_nets_offered(struct vmm *vmm, struct vmbus_chan *sub); /* false: it is not of a NIC */
void vmm_nets_removed(struct vmm *vmm, struct vmbus_chan *chan);
void vmm_nets_stop(struct vmm *vmm); /* these four as those of the disks */
void vmm_nets_go(struct vmm *vmm);
void vmm_nets_dispatch(struct vmm *vmm);
int vmm_nets_let_go(struct vmm *vmm);
int vmm_nets_command(struct vmm *vmm, const char *line, char *answer, size_t bytes);
void vmm_nets_list(struct vmm *vmm, void (*tell)(void *ctx, const char *line), void *ctx);
void vmm_nets_destroy(struct vmm *vmm);

/* ---- provider.c: devices of other processes ---- */
int vmm_providers_open(struct vmm *vmm);
int vmm_provider_fd(const struct vmm *vmm, uint32_t i); /* -1: none */
void vmm_provider_dispatch(struct vmm *vmm, uint32_t i);
int vmm_providers_let_go(struct vmm *vmm); /* of the guest's rings: before memory is emptied */
void vmm_providers_list(struct vmm *vmm,
			void (*tell)(void *ctx, const struct vmbus_provider_info *info), void *ctx);
void vmm_providers_close(struct vmm *vmm);

/* ---- vcpu.c ---- */
int vmm_vcpus_start(struct vmm *vmm); /* threads, parked */
void vmm_vcpus_go(struct vmm *vmm);
void vmm_vcpus_stop(struct vmm *vmm); /* until all are parked */
void vmm_vcpus_join(struct vmm *vmm);
void vmm_ask(struct vmm *vmm, uint32_t ask);
void vmm_vcpu_reset_register(void *vmm); /* reset() of the bus, on a vCPU's thread */

/* ---- bus.c: the main thread's loop ---- */
int vmm_bus_open(struct vmm *vmm);
enum vmm_end vmm_bus_run(struct vmm *vmm);
void vmm_bus_close(struct vmm *vmm);
void vmm_bus_end(struct vmm *vmm, enum vmm_end end);
int vmm_bus_reset(struct vmm *vmm);   /* -1: it could not be, and ends */
void vmm_bus_please(struct vmm *vmm); /* shut down: first asks, then ends */
void vmm_bus_asks(struct vmm *vmm);   /* do what vCPUs ask for */

/* ---- console.c: the terminal ---- */
int vmm_console_open(struct vmm *vmm);
void vmm_console_raw(void);
void vmm_console_restore(void);		 /* any thread, signal handlers too */
void vmm_console_flush(struct vmm *vmm); /* what the guest wrote, as far as it goes now */
void vmm_console_drain(struct vmm *vmm); /* all of it, for two seconds at most */
void vmm_console_read(struct vmm *vmm);
void vmm_console_close(struct vmm *vmm);

/* ---- name.c ---- */
int vmm_name_keep(struct vmm_name *name, const char *path);
int vmm_name_give(const struct vmm_name *name, const char *path, uid_t uid, gid_t gid);
void vmm_name_remove(struct vmm_name *name, const char *path);

/* ---- record.c ---- */
int vmm_record_open(struct vmm *vmm, struct vmbus_bus_opts *opts);
void vmm_record_close(struct vmm *vmm); /* after the bus */

/* ---- control.c, send.c ---- */
int vmm_control_listen(struct vmm *vmm);
void vmm_control_accept(struct vmm *vmm);
void vmm_control_ready(struct vmm *vmm, uint32_t client);
void vmm_control_close(struct vmm *vmm);
int vmm_send(const char *path, const char *line);

/* ---- stats.c, report.c ---- */
int vmm_stats_open(struct vmm *vmm);
void vmm_stats_close(struct vmm *vmm);
void vmm_stats_mark(struct vmm *vmm, uint32_t id);
void vmm_stats_read(struct vmm *vmm, uint64_t values[VMM_STATS_MAX]);
uint64_t vmm_overhead(const struct vmm *vmm);
int vmm_report_open(struct vmm *vmm);
void vmm_report_write(struct vmm *vmm);

/* ---- sandbox.c, filter.c or filter_none.c ---- */
enum vmm_role { /* bits: the main thread has several */
	VMM_ROLE_VCPU = 1,
	VMM_ROLE_BUS = 2,
	VMM_ROLE_HOST = 4,    /* it serves providers */
	VMM_ROLE_DISKS = 8,   /* it opens stores, of files that are open */
	VMM_ROLE_QUEUE = 16,  /* a thread of the disks' or NICs' */
	VMM_ROLE_NETS = 32,   /* with ports of NICs */
	VMM_ROLE_SOCKETS = 64 /* and one that makes sockets */
};
int vmm_sandbox_enter(struct vmm *vmm);	 /* before there are threads */
int vmm_filter_prepare(struct vmm *vmm); /* catches violations */
int vmm_filter_load(uint32_t roles);	 /* for the calling thread */
bool vmm_filter_there(void);

#endif
