/* SPDX-License-Identifier: MIT */
/* vmbus-switch: what its files share. */
#ifndef SW_H
#define SW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <poll.h>

#include <vmbus/bus.h>
#include <vmbus/pool.h>
#include <vmbus/provider.h>
#include <vmbus/shm_bus.h>
#include <vmbus/switch.h>

#include "nic.h"

#define SW_SECOND ((uint64_t)1000000000u)

/* Exit status; vmbus-switch(1) lists them. */
enum sw_end {
	SW_OK = 0,
	SW_FAILED = 1, /* something here went wrong */
	SW_USAGE = 2,
	SW_GONE = 3,  /* the parent ended */
	SW_FILTER = 4 /* the sandbox was violated */
};

/* ---- vmbus-switch.c ---- */
extern bool sw_quiet;
extern bool sw_explained; /* sw_log() has told of an error */
void sw_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
int sw_failed(const char *format, ...) __attribute__((format(printf, 1, 2))); /* SW_FAILED */
int sw_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));  /* SW_USAGE */
void sw_log(void *ctx, enum vmbus_log_level level, const char *line);
void sw_line(void *ctx, const char *line); /* of a part that ctx, a string, names */
/* Of this thread, and those that it makes from here on: signals come within sw_wait() only, so that none is
   overlooked. */
void sw_catch_signals(void);
bool sw_stopped(void);
/* SIGUSR1 came since the last call; once sw_catch_ask() was called. */
void sw_catch_ask(void);
bool sw_asked(void);
/* poll() without an end, but for signals. */
int sw_wait(struct pollfd *polls, nfds_t count);
/* A decimal number, all of the text; 0, or -1. */
int sw_number(const char *text, uint64_t min, uint64_t max, uint64_t *value);
/* --queue-bytes N at argv[*i]: 0, SW_GONE: it is another word, or an exit status. */
#define SW_QUEUE_BYTES (1u << 20)
int sw_queue_word(int argc, char **argv, int *i, uint32_t *queue_bytes);

/* Each is given what follows its name. */
int sw_serve(int argc, char **argv);
int sw_join(int argc, char **argv);
int sw_ask(int argc, char **argv); /* stat and link */
/* What a switch calls its NIC of a MAC; false: it does not say, and name may have been written. */
bool sw_ask_name(const char *socket, const uint8_t mac[6], char name[VMBUS_SWITCH_NAME_BYTES]);

/* ---- sw_json.c: the answer to stat as JSON ---- */
struct sw_json {
	FILE *to;
	uint32_t list, lines; /* which one is open, lines in it */
};
void sw_json_begin(struct sw_json *json, FILE *to);
/* A line of the answer, which is changed; false: it is none.  With the one that begins with "ok" all is
   said. */
bool sw_json_line(struct sw_json *json, char *line);

/* ---- sw_plugs.c: ports of the command line, on a switch ---- */
#define SW_PLUGS_MAX 16u

struct sw_plugs {
	struct nic_spec spec[SW_PLUGS_MAX];
	struct vmbus_port port[SW_PLUGS_MAX];
	char name[SW_PLUGS_MAX][VMBUS_SWITCH_NAME_BYTES];
	uint32_t count, open;
};

/* --port and its short forms, which take argv[*i] and what follows it: 0, or an exit status that was
   explained; SW_GONE: the word is none of these. */
int sw_plugs_word(struct sw_plugs *plugs, int argc, char **argv, int *i);
/* Open, and plug in; changed may be NULL. */
int sw_plugs_open(struct sw_plugs *plugs, struct vmbus_switch *sw, void (*changed)(void *ctx));
bool sw_plugs_make_sockets(const struct sw_plugs *plugs);
/* After the switch is gone. */
void sw_plugs_close(struct sw_plugs *plugs);

/* ---- sw_nics.c: NICs of children, and of machines that others run ---- */
#define SW_ATTACH_MAX 16u
#define SW_NICS_MAX VMBUS_SWITCH_PORTS_MAX

struct sw_nic {
	char name[VMBUS_SWITCH_NAME_BYTES]; /* "": there is none */
	struct vmbus_net *net;
	struct vmbus_port port;
	struct vmbus_shm_child *child;	 /* whose it is, */
	struct vmbus_provider *provider; /* or over which */
	uint32_t channels;		 /* of chan */
	bool left;			 /* the child has */
	struct vmbus_chan *chan[VMBUS_NET_SUBCHANNELS_MAX + 1];
};

struct sw_nics {
	struct vmbus_switch *sw;
	struct vmbus_pool *pool; /* NULL: all is served by the main thread */
	const char *scope;	 /* MACs are made of it and of names */
	uint32_t subchannels, mtu, max;
	struct sw_nic *nic; /* max of them */
};

int sw_nics_create(struct sw_nics *nics); /* 0, or an exit status */
int sw_nics_attached(void *ctx, struct vmbus_shm_child *child, struct vmbus_bus *bus);
void sw_nics_detached(void *ctx, struct vmbus_shm_child *child, enum vmbus_shm_end why);
void sw_nics_offered(void *ctx, struct vmbus_chan *sub);
void sw_nics_removed(void *ctx, struct vmbus_chan *chan);
/* A NIC in what listens for providers at path: 0, or an exit status. */
int sw_nics_provide(struct sw_nics *nics, const char *path, const char *name);
/* It ends: by itself, or its parent has. */
void sw_nics_leave(struct sw_nic *nic);
void sw_nics_destroy(struct sw_nics *nics);
struct sw_nic *sw_nics_find(const struct sw_nics *nics, const char *name);

/* ---- sw_ctl.c: the socket that answers stat and link ---- */
#define SW_CLIENTS_MAX 4u

struct sw_client {
	int fd;
	uint32_t used;
	char line[128];
	char *out;
	size_t out_at, out_used, out_room;
	bool last;
};

struct sw_ctl {
	int fd;
	char path[108];
	const struct sw_nics *nics;
	struct sw_client client[SW_CLIENTS_MAX];
};

#define SW_CTL_POLLS (1u + SW_CLIENTS_MAX)

/* The name of that socket beside that of the switch; 0, or -1: it is too long. */
int sw_ctl_path(const char *socket, char path[108]);
int sw_ctl_listen(struct sw_ctl *ctl, const char *socket, const struct sw_nics *nics);
void sw_ctl_polls(const struct sw_ctl *ctl, struct pollfd polls[SW_CTL_POLLS]);
void sw_ctl_turn(struct sw_ctl *ctl, const struct pollfd polls[SW_CTL_POLLS]);
void sw_ctl_close(struct sw_ctl *ctl);

/* ---- sw_filter.c or sw_filter_none.c ---- */
/* No privileges are left; before there are threads. */
int sw_unprivileged(void);
/* From here on this process neither opens nor executes.  sockets: it makes some, and looks up names. */
int sw_sandbox(bool sockets);

#endif
