/* SPDX-License-Identifier: MIT */
/*
 * A learning Ethernet switch between NICs of this process, and ports plugged into it, for instance a
 * TAP.
 *
 * A frame that a guest sends goes to its receivers' queues at once, in the thread of who sends it,
 * without a lock.  Plugged ports are served by vmbus_switch_dispatch().
 *
 * Concepts, what is dropped and who counts it: vmbus_switch_create(3), vmbus_port(7).
 */
#ifndef VMBUS_SWITCH_H
#define VMBUS_SWITCH_H

#include <vmbus/port.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vmbus_switch; /* opaque */

#define VMBUS_SWITCH_PORTS_MAX 1024u
#define VMBUS_SWITCH_NAME_BYTES 32u /* of a port's name, with its end */

/* Options of a switch; 0 takes the default in brackets. */
struct vmbus_switch_opts {
	size_t struct_bytes; /* sizeof(struct vmbus_switch_opts) */
	uint32_t ports;	     /* [64] at one time, up to VMBUS_SWITCH_PORTS_MAX */
	uint32_t addresses;  /* [4096] that are remembered, a power of two from 64 to 65536 */
	uint32_t learn_max;  /* [1024] of them from one port */
	uint32_t age_s;	     /* [300] an address is forgotten that was silent for so long */
	/* [100,000] copies a second that are made of what one port sends to all: broadcasts,
	   multicasts, and frames to addresses not known.  One for each other port, and one more of it
	   for each 2 KiB of the frame. */
	uint32_t flood_max;
	uint32_t queue_bytes; /* [256 KiB] of frames that wait for a port: a power of two from
				 128 KiB to 16 MiB */
	uint64_t reserved[4];
};

/* Counters of one port since it was made, and what it is. */
struct vmbus_switch_stats {
	char name[VMBUS_SWITCH_NAME_BYTES];
	bool plugged; /* by vmbus_switch_plug() */
	uint8_t reserved1[3];
	uint32_t addresses; /* that were learned from it and are known now */
	/* From it into the switch, and out of the switch to it.  TSO counts as one. */
	uint64_t in_frames, in_bytes, out_frames, out_bytes;
	uint64_t flooded;     /* of in: to all other ports */
	uint64_t flood_limit; /* of in, dropped: more than flood_max */
	uint64_t nowhere;     /* of in, dropped: to this port's own side; to no port that is there;
				 to an address that bridges keep */
	uint64_t bad;	      /* of in, dropped: no frame, or from a group's address */
	uint64_t no_room;     /* dropped on the way to it: its queue was full */
	uint64_t refused;     /* of out, dropped: what the plugged port cannot take, and what it
				 dropped itself */
	uint64_t not_learned; /* addresses: learn_max, or no place in the table */
	uint64_t moved;	      /* addresses that came here from another port */
	uint64_t in_lost; /* dropped by the plugged port itself on the way in; not in in_frames */
	uint64_t reserved[3];
};

/* An address that the switch knows. */
struct vmbus_switch_address {
	uint8_t mac[6];
	uint8_t reserved1[2];
	uint32_t port; /* its number */
	uint32_t age_s;
};

/*
 * Make a switch.
 *
 * opts	 copied; NULL: all defaults.
 * sw	 on success.
 *
 * Errors: INVAL  struct_bytes is too small
 *	   RANGE  a number is past its limit
 *	   NOMEM, SYSTEM
 * Effect: none on error.
 * Threads: any.
 */
VMBUS_API int vmbus_switch_create(const struct vmbus_switch_opts *opts, struct vmbus_switch **sw);

/*
 * End it.  Plugged ports are unplugged first.
 *
 * sw  NULL is allowed.  Ports that vmbus_switch_port() made are destroyed.
 *
 * Threads: none other in a call on it, or on a port of it.
 */
VMBUS_API void vmbus_switch_destroy(struct vmbus_switch *sw);

/*
 * A port of the switch for a NIC of this process.
 *
 * name	 for statistics: printable ASCII, 1 to 31 characters; another port may have it.
 * port	 set on success; vmbus_port_destroy() takes it off the switch.
 *
 * Errors: INVAL  the name
 *	   FULL	  there are as many ports as there may be
 *	   NOMEM, SYSTEM
 * Effect: none on error.
 * Threads: any.
 */
VMBUS_API int vmbus_switch_port(struct vmbus_switch *sw, const char *name, struct vmbus_port *port);

/*
 * Plug a port into the switch, as a NIC would use it; and pull it out.
 *
 * name	   as above.
 * port	   copied; its first queue is used.  Not destroyed when it is unplugged.
 * number  on success, for vmbus_switch_unplug(); NULL is allowed.
 *
 * Errors: INVAL  the name, a port that lacks what is mandatory, or one of this switch's own
 *	   FULL	  there are as many ports as there may be
 *	   STATE  the port is plugged into this switch already
 *	   RANGE  unplug: no plugged port has that number
 *	   NOMEM, SYSTEM, and what the port's info() and open() returned
 * Effect: none on error.  unplug: when it returns the port is not used any more.
 * Threads: any but the one in vmbus_switch_dispatch(), for which they wait.
 */
VMBUS_API int vmbus_switch_plug(struct vmbus_switch *sw, const char *name,
				const struct vmbus_port *port, uint32_t *number);
VMBUS_API int vmbus_switch_unplug(struct vmbus_switch *sw, uint32_t number);

/*
 * A descriptor that is readable when vmbus_switch_dispatch() has work, for poll() and the like.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API int vmbus_switch_fd(const struct vmbus_switch *sw);

/*
 * Move frames from and to plugged ports, without waiting.
 *
 * budget  frames of each port and direction, about; 0: 256.
 *
 * Returns how many frames were moved; when there are more the descriptor is readable still.
 * Errors: SYSTEM
 * Effect: as told.
 * Threads: one at a time; NICs' threads may send meanwhile.
 */
VMBUS_API int vmbus_switch_dispatch(struct vmbus_switch *sw, uint32_t budget);

/*
 * Counters of a port; the addresses that are known.
 *
 * number   of the port: 0 to opts.ports - 1.
 * address  room for n; NULL with n 0.
 *
 * Returns stats: 1; 0 when there is no such port now.  addresses: how many are known, which may be
 * more than n.
 * Errors: RANGE  stats: number is not below opts.ports
 * Effect: none but on stats, address.
 * Threads: any.
 */
VMBUS_API int vmbus_switch_stats(const struct vmbus_switch *sw, uint32_t number,
				 struct vmbus_switch_stats *stats);
VMBUS_API int vmbus_switch_addresses(const struct vmbus_switch *sw,
				     struct vmbus_switch_address *address, uint32_t n);

#ifdef __cplusplus
}
#endif
#endif
