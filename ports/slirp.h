/* SPDX-License-Identifier: MIT */
/* What the files of the slirp port share. */
#ifndef VMBUS_PORT_SLIRP_PARTS_H
#define VMBUS_PORT_SLIRP_PARTS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <netinet/in.h>
#include <poll.h>
#include <slirp/libslirp.h>

#include <vmbus/port_slirp.h>

#define VMBUS__SLIRP_TIMERS 4u

struct vmbus__slirp_timer {
	SlirpTimerCb fn; /* NULL: nobody has it */
	void *opaque;
	int64_t at_ms; /* -1: not set */
};

/* What libslirp waits for: the sockets that it named last, in the order of its naming, and which of them
   are in the epoll set, by their number. */
struct vmbus__slirp_waits {
	int epoll_fd, timer_fd;
	struct pollfd *poll;
	uint32_t polls, polls_room;
	struct vmbus__slirp_seat {
		uint32_t events; /* in the set; 0: it is not there */
		uint32_t turn;	 /* when it was named last */
		bool socket;	 /* libslirp has said so */
	} * seat;
	uint32_t seats;
	uint32_t turn;
	uint32_t sockets;
	int64_t timer_ms; /* when the timer is set to, -1: it is not */
	struct vmbus__slirp_timer timer[VMBUS__SLIRP_TIMERS];
};

/* The network, as numbers of this machine's byte order. */
struct vmbus__slirp_net {
	uint32_t network, mask, host, nameserver, guest;
};

/* slirp_wait.c */
int vmbus__slirp_waits_begin(struct vmbus__slirp_waits *w);
void vmbus__slirp_waits_end(struct vmbus__slirp_waits *w);
int64_t vmbus__slirp_now_ns(void);
/* Look which sockets and timers are due, and let libslirp work on them; without sockets, only its clock
   and timers go on. */
void vmbus__slirp_work(struct vmbus__slirp_waits *w, Slirp *slirp, bool sockets);
/* Wait for what libslirp wants now: the epoll set is readable when it is there.  at_once: it is anyway. */
void vmbus__slirp_wait(struct vmbus__slirp_waits *w, Slirp *slirp, bool at_once);
/* A descriptor's number begins, ends to be a socket. */
void vmbus__slirp_socket(struct vmbus__slirp_waits *w, int fd, bool begins);
void *vmbus__slirp_timer_new(struct vmbus__slirp_waits *w, SlirpTimerCb fn, void *opaque);

/* slirp_conf.c; negative: it makes no sense. */
int vmbus__slirp_network(const char *text, struct vmbus__slirp_net *net);
struct vmbus__slirp_forward {
	bool udp;
	struct in_addr host, guest;
	uint16_t host_port, guest_port;
};
int vmbus__slirp_forward(const char *text, const struct vmbus__slirp_net *net,
			 struct vmbus__slirp_forward *forward);

#endif
