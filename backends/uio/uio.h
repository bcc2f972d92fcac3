/* SPDX-License-Identifier: MIT */
/* What the files of an opened device share. */
#ifndef VMBUS_UIO_PRIVATE_H
#define VMBUS_UIO_PRIVATE_H

#include "uio/sys.h"
#include "uio/sysfs.h"

#define VMBUS__UIO_ANSWERS 8u	 /* messages for the guest; each of its own brings at most two */
#define VMBUS__UIO_MONITORS 128u /* [MONITOR-PAGE] */

struct vmbus__uio_answer {
	uint32_t len;
	uint8_t bytes[VMBUS_CTL_BYTES_MAX];
};

/* The page list of the rings, as the guest describes it. */
struct vmbus__uio_list {
	uint32_t gpadl;
	uint32_t qwords; /* to come in all */
	uint32_t got;
	bool open;  /* being described */
	bool right; /* so far it is that of the rings */
	bool known; /* complete, and right */
};

struct vmbus_uio {
	struct vmbus_guest *guest;
	struct vmbus_ctl_offer offer;
	struct vmbus__uio_areas areas;
	char name[40];
	char path[64];			/* of the device file */
	char uio_folder[32];		/* below the device's */
	char cpu_path[VMBUS__UIO_PATH]; /* where the processor of its interrupts is set */
	int lock_fd;			/* the device's folder, which we hold the lock of */
	int fd;				/* of the device file; -1: the channel is not open */
	int epoll_fd;			/* all that can wake us */
	int again_fd;
	int kick_fd;  /* something was asked for outside of dispatch; rung by any thread */
	int timer_fd; /* when the guest wants a turn although nothing happens */
	bool again_set;
	bool ending; /* closing: the guest may be destroyed */
	bool gone;   /* the kernel says that the device was withdrawn */
	bool told;   /* the guest was told so */
	bool offered;
	bool opened; /* the guest thinks so */
	bool rings_taken;
	uint8_t *rings; /* our place for them: the kernel's while open, else ours, and unused */
	uint8_t *int_page;
	uint8_t *monitor_page;
	uint32_t version;
	struct vmbus__uio_list list;
	struct vmbus__uio_answer answers[VMBUS__UIO_ANSWERS];
	uint32_t first_answer;
	uint32_t answer_count;
	void (*log)(void *ctx, const char *line); /* the guest's */
	void *log_ctx;
};

extern const struct vmbus_guest_backend vmbus__uio_guest_backend;

void vmbus__uio_log(const struct vmbus_uio *uio, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* device.c: the channel is opened and closed by opening and closing its file. */
int vmbus__uio_device_open(struct vmbus_uio *uio);
void vmbus__uio_device_close(struct vmbus_uio *uio);
/* Take interrupts: whether some came; sees to it that the guest hears of a withdrawal. */
bool vmbus__uio_device_event(struct vmbus_uio *uio);

/* parent.c: answers in the parent's stead. */
int vmbus__uio_parent_post(struct vmbus_uio *uio, const void *payload, uint32_t bytes);
/* Tell the guest that the device was withdrawn, once. */
void vmbus__uio_parent_rescind(struct vmbus_uio *uio);
/* The page number of the guest's that names a page of the rings. */
uint64_t vmbus__uio_pfn(const struct vmbus_uio *uio, const void *page);

/* uio.c: sleep until something may have come; how many things did, or an error. */
int vmbus__uio_sleep(struct vmbus_uio *uio, uint64_t timeout_ns);

#endif
