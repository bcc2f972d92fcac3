/* SPDX-License-Identifier: MIT */
/*
 * The words in which vmbus-vmm and vmbus-switch are told of a network port, and what they make of them.
 * vmbus-vmm(1) lists the words.
 */
#ifndef NIC_H
#define NIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vmbus/net.h>

#define NIC_WHY_BYTES 800u
#define NIC_SPIN_US_MAX 10000u
#define NIC_FORWARDS_MAX 16u
#define NIC_FORWARD_MAX 64u /* with its zero byte */
#define NIC_SOURCE_MAX 97u  /* with its zero byte */

enum nic_kind {
	NIC_NULL, /* takes all frames, and gives none */
	NIC_TAP,
	NIC_USER,
	NIC_PACKET,
	NIC_SWITCH
};

struct nic_spec {
	enum nic_kind kind;
	char source[NIC_SOURCE_MAX]; /* an interface or a socket */
	uint8_t mac[6];		     /* all zero: made of id, or the port's */
	uint32_t queues, mtu, spin_us;
	bool link_down, no_offload, no_pack, no_rsc, restricted;
	struct vmbus_guid id; /* zero: the caller makes one */
	char forward[NIC_FORWARDS_MAX][NIC_FORWARD_MAX];
	uint32_t forwards;
	char network[24];  /* of user; or "" */
	char name[32];	   /* that it gives itself towards others; "": the caller's */
	uint32_t snap;	   /* bytes of a frame in the capture; 0: all */
	char capture[256]; /* its file, or "" */
};

/* What a port that runs has to say, on any thread; each may be NULL. */
struct nic_events {
	void (*changed)(void *ctx); /* for vmbus_net_port_changed() */
	void (*log)(void *ctx, const char *line);
	void *ctx;
};

/* 0, or -1 and a text of NIC_WHY_BYTES that says what is wrong. */
int nic_parse(struct nic_spec *spec, const char *text, char *why);
/* spec[before] takes nothing that only one port can have from those before it: 0, or -1 and a text. */
int nic_alone(const struct nic_spec *spec, uint32_t before, char *why);
/* Six bytes in hexadecimal, with colons between them; 0, or -1. */
int nic_mac(const char *text, uint8_t mac[6]);
/* A MAC as text, 18 bytes; returns it. */
const char *nic_mac_text(const uint8_t mac[6], char text[18]);

/*
 * Open the port, with the capture around it if there is one.
 *
 * name	   that a port gives itself towards others, for instance a switch, unless spec has one.
 * events  copied; NULL: none.
 *
 * Returns 0, or -1 and a text.
 */
int nic_open(const struct nic_spec *spec, const char *name, const struct nic_events *events,
	     struct vmbus_port *port, char *why);
/* No NIC and no switch uses it. */
void nic_close(struct vmbus_port *port);

/* For vmbus_net_create(); port, name and functions are the caller's to add. */
void nic_options(const struct nic_spec *spec, struct vmbus_net_opts *opts);
/* One line of a NIC's counters and state, without its end; returns text. */
const char *nic_line(const struct vmbus_net *net, char *text, size_t bytes);

#endif
