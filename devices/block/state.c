/* SPDX-License-Identifier: MIT */
/*
 * What outlives a process: the words in a channel's journal, from which the next process goes on,
 * and the saved state of a channel.  Both are hostile when they are read.
 *
 * What the guest knows of the disks is in neither.  A number that stands for the list of disks, as
 * it was when the guest was last told to look and had looked, tells whether it has to be told
 * again.  A journal has besides who the first disks were: what was sent to one of them is not for
 * another one.
 */
#include "block/vsp.h"

#include <string.h>

#define FORM 1u
#define HEAD_BYTES 24u
#define ATTENTION_BYTES 4u
#define REPLY_BYTES (12u + VMBUS__STOR_BYTES)

/* The words of a primary channel; those of a sub-channel are zero. */
struct own {
	uint64_t state;
	uint64_t told;		  /* 0: the guest is to be told */
	uint32_t who[VMBUS__WHO]; /* with told; 0 of earlier versions */
};
_Static_assert(sizeof(struct own) == 64, "own_bytes of the device");

/* Form in the upper byte, then the state 1, version 2, sub-channels 2, zeroes 2. */
uint64_t vmbus__state_word(const struct vmbus__nexus *nexus)
{
	return (uint64_t)FORM << 56 | (uint64_t)nexus->state << 48 |
	       (uint64_t)nexus->version << 32 | (uint64_t)nexus->subs << 16;
}

/* Returns whether it can be.  0 is the word of a channel on which nothing was said. */
bool vmbus__state_set(struct vmbus__nexus *nexus, uint64_t word)
{
	const uint8_t state = (uint8_t)(word >> 48 & 0xFFu);
	const uint16_t version = (uint16_t)(word >> 32 & 0xFFFFu);
	const uint16_t subs = (uint16_t)(word >> 16 & 0xFFFFu);

	if (word == 0)
		return true;
	if (word >> 56 != FORM || state > VMBUS__INIT_READY || (word & 0xFFFFu) ||
	    subs > VMBUS__SUBS_MAX || (subs && state < VMBUS__INIT_END) ||
	    (state >= VMBUS__INIT_PROPERTIES ? !vmbus__nexus_knows(version) : version != 0))
		return false;
	nexus->state = state;
	nexus->version = version;
	nexus->subs = subs;
	return true;
}

void vmbus__state_note(struct vmbus__port *port)
{
	struct own *const own = vmbus_chan_own(port->chan);

	if (own)
		vmbus__st64_relaxed(vmbus__as_a64(&own->state), /* BLOCKOWN.note */
				    vmbus__state_word(port->nexus));
}

/* The guest has looked at the disks that there are, or is to be told. */
void vmbus__state_note_told(struct vmbus__port *port, bool told)
{
	struct own *const own = vmbus_chan_own(port->chan);
	struct vmbus__known known;
	uint32_t i;

	if (!own)
		return;
	vmbus__st64_relaxed(vmbus__as_a64(&own->told), 0); /* BLOCKOWN.note */
	if (!told)
		return;
	vmbus__block_known(port->block, &known);
	/* Looked at after the list: who has changed what we have read has set it before. */
	if (vmbus__ld32_relaxed(&port->nexus->tell)) /* BLOCKLIST.look */
		return;
	for (i = 0; i < VMBUS__WHO; i++)
		vmbus__st32_release(vmbus__as_a32(&own->who[i]), known.who[i]); /* BLOCKOWN.note */
	vmbus__st64_release(vmbus__as_a64(&own->told), known.number);		/* BLOCKOWN.note */
}

/* Whether the guest knew another disk at this address, by a table or NULL. */
static bool is_another(const uint32_t *table, const struct vmbus__disk *disk)
{
	const uint32_t who = vmbus__disk_who(disk);
	uint32_t i;

	for (i = 0; table && i < VMBUS__WHO; i++) {
		const uint32_t was =
			vmbus__ld32_relaxed(vmbus__as_a32c(&table[i])); /* BLOCKOWN.read */

		if (was != who && was >> VMBUS__WHO_BITS == who >> VMBUS__WHO_BITS)
			return true;
	}
	return false;
}

/* The disks are not those that the guest knows.  What it has sent to one that is gone, and what a process
   before us had begun of that, is not for the one that is there. */
static void mark(struct vmbus__port *port, const uint32_t *table)
{
	struct vmbus__nexus *const nexus = port->nexus;
	uint64_t attention;
	uint32_t t, l;

	for (t = 0; t < VMBUS__TARGETS; t++)
		for (l = 0; l < VMBUS__LUNS; l++) {
			vmbus__a64 *const word = vmbus__as_a64(&nexus->ua[t][l]);

			if (!port->views[t][l])
				continue;
			attention = is_another(table, &port->views[t][l]->unit->disk)
					    ? VMBUS__UA_LEFT
					    : VMBUS__UA_CAPACITY | VMBUS__UA_LIMITS;
			(void)vmbus__or64_release(word, attention); /* UNITATT.set */
		}
	vmbus__st32_relaxed(&nexus->tell, 1); /* BLOCKLIST.tell */
	vmbus__port_wake(port);
}

/* A guest that was ready goes on; if the disks are not those that it knows, it is told to look. */
static void go_on(struct vmbus__port *port, uint64_t told, const uint32_t *table)
{
	struct vmbus__known known;

	if (port->nexus->state != VMBUS__INIT_READY)
		return;
	vmbus__block_known(port->block, &known);
	if (told != known.number && told != known.shapes)
		mark(port, told ? table : NULL);
	vmbus__nexus_ready(port);
}

int vmbus__state_resume(struct vmbus__port *port)
{
	const struct own *const own = vmbus_chan_own(port->chan);

	if (!own)
		return 0;
	if (!vmbus__state_set(port->nexus,
			      vmbus__ld64_relaxed(vmbus__as_a64c(&own->state)))) /* BLOCKOWN.read */
		return VMBUS_E_INVAL;
	port->nexus->repeat = true;
	go_on(port, vmbus__ld64_relaxed(vmbus__as_a64c(&own->told)), own->who); /* BLOCKOWN.read */
	return 0;
}

/* ---- saved states ---- */

static uint8_t *put(uint8_t *to, uint32_t bytes, uint64_t v)
{
	vmbus__stor_put(to, bytes, v);
	return to + bytes;
}

static uint32_t length(const struct vmbus__queue *queue)
{
	const struct vmbus__task *task;
	uint32_t n = 0;

	for (task = queue->first; task; task = task->next)
		n++;
	return n;
}

/* What goes along with a channel of the word of an address.  SAID does with the answer that says so: to the
   other channels it was not said, lest they take it for TOLD while that answer waits. */
static uint64_t attention(const struct vmbus__port *port, uint32_t t, uint32_t l)
{
	const uint64_t bits =
		vmbus__ld64_relaxed(vmbus__as_a64c(&port->nexus->ua[t][l])); /* UNITATT.take */
	const bool mine = port->said[t][l / 64u] >> l % 64u & 1u;

	if (!port->primary)
		return mine ? bits & VMBUS__UA_SAID : 0;
	if (mine || !(bits & VMBUS__UA_SAID))
		return bits;
	return (bits & ~(uint64_t)VMBUS__UA_SAID) | VMBUS__UA_LEFT;
}

static uint32_t attentions(const struct vmbus__port *port, uint8_t *to, uint32_t room)
{
	uint32_t n = 0, t, l;

	for (t = 0; t < VMBUS__TARGETS; t++)
		for (l = 0; l < VMBUS__LUNS; l++) {
			const uint64_t bits = attention(port, t, l);

			if (!bits)
				continue;
			if (n < room) {
				to[0] = (uint8_t)t;
				to[1] = (uint8_t)l;
				to[2] = (uint8_t)(bits & 0xFFu);
				to[3] = 0;
				to += ATTENTION_BYTES;
			}
			n++;
		}
	return n;
}

static uint8_t *put_replies(uint8_t *to, const struct vmbus__queue *queue)
{
	const struct vmbus__task *task;

	for (task = queue->first; task; task = task->next) {
		to = put(put(to, 8, task->id), 4, task->reply_bytes);
		memcpy(to, task->reply, VMBUS__STOR_BYTES);
		to += VMBUS__STOR_BYTES;
	}
	return to;
}

/* What waits for the primary channel is asked again by the guest: it is answered BUSY. */
static uint8_t *put_held(uint8_t *to, const struct vmbus__queue *queue)
{
	const struct vmbus__stor_head head = { .op = VMBUS__STOR_COMPLETE_IO,
					       .status = VMBUS__STOR_DEVICE_BUSY };
	const struct vmbus__stor_srb srb = { .srb_status = VMBUS__SRB_BUSY,
					     .scsi_status = VMBUS__SCSI_BUSY,
					     .cdb_bytes = VMBUS__SRB_CDB_BYTES,
					     .sense_bytes = VMBUS__SRB_SENSE_BYTES };
	const struct vmbus__task *task;

	for (task = queue->first; task; task = task->next) {
		to = put(put(to, 8, task->id), 4, task->reply_bytes);
		vmbus__stor_head_put(to, &head);
		vmbus__stor_answer_put(to, &srb);
		to += VMBUS__STOR_BYTES;
	}
	return to;
}

int vmbus__state_save(struct vmbus_chan *chan, void *buf, size_t bytes)
{
	struct vmbus__port *const port = vmbus_chan_priv(chan);
	struct vmbus__nexus *const nexus = port->nexus;
	const uint32_t held = length(&port->held), replies = held + length(&port->replies);
	const uint32_t marks = attentions(port, NULL, 0);
	const size_t need =
		HEAD_BYTES + (size_t)marks * ATTENTION_BYTES + (size_t)replies * REPLY_BYTES;
	struct vmbus__known known = { 0 };
	uint8_t *to = buf;

	/* Then ready() follows, but not while answers wait for room: SAID goes along with these. */
	if (port->under_way > held || (port->tell_after && !port->replies.first))
		return VMBUS_E_AGAIN;
	if (need > bytes)
		return VMBUS_E_RANGE;
	to = put(to, 8, port->primary ? vmbus__state_word(nexus) : 0);
	if (port->primary)
		vmbus__block_known(port->block, &known);
	/* After the list, as above. */
	to = put(to, 8, vmbus__ld32_relaxed(&nexus->tell) ? 0 : known.number); /* BLOCKLIST.look */
	to = put(put(to, 4, marks), 4, replies);
	/* Another thread may add to them meanwhile; that guest is told to look. */
	if (marks && attentions(port, to, marks) < marks)
		return VMBUS_E_AGAIN;
	to = put_replies(to + (size_t)marks * ATTENTION_BYTES, &port->replies);
	to = put_held(to, &port->held);
	return (int)(to - (uint8_t *)buf);
}

static bool take_attentions(struct vmbus__port *port, const uint8_t *from, uint32_t n)
{
	uint64_t *ua;

	for (; n; n--, from += ATTENTION_BYTES) {
		if (from[0] >= VMBUS__TARGETS || from[3] || from[2] == 0 ||
		    from[2] & ~VMBUS__UA_ALL)
			return false;
		ua = &port->nexus->ua[from[0]][from[1]];
		if (port->primary)
			(void)vmbus__or64_release(vmbus__as_a64(ua), from[2]); /* UNITATT.set */
		else if (from[2] != VMBUS__UA_SAID)
			return false;
		/* Where the primary channel has not brought LEFT yet, it is said once more. */
		if (port->primary ? from[2] & VMBUS__UA_SAID
				  : vmbus__scsi_turn(ua, VMBUS__UA_LEFT, VMBUS__UA_SAID))
			vmbus__nexus_tell_after(port, from[0], from[1]);
	}
	return true;
}

static bool take_replies(struct vmbus__port *port, const uint8_t *from, uint32_t n)
{
	for (; n; n--, from += REPLY_BYTES) {
		struct vmbus__task *const task = vmbus__task_take(port);
		const uint64_t bytes = vmbus__stor_get(from + 8, 4);

		if (!task || bytes < 16 || bytes > VMBUS__STOR_BYTES)
			return false;
		task->id = vmbus__stor_get(from, 8);
		task->at = VMBUS__NOWHERE;
		task->reply_bytes = (uint8_t)bytes;
		memcpy(task->reply, from + 12, VMBUS__STOR_BYTES);
		vmbus__queue_add(&port->replies, task);
	}
	return true;
}

int vmbus__state_restore(struct vmbus__port *port, const void *buf, size_t bytes)
{
	const uint8_t *const from = buf;
	uint64_t word, marks, replies;
	size_t left;
	int err;

	if (bytes < HEAD_BYTES)
		return VMBUS_E_INVAL;
	left = bytes - HEAD_BYTES;
	word = vmbus__stor_get(from, 8);
	marks = vmbus__stor_get(from + 16, 4);
	replies = vmbus__stor_get(from + 20, 4);
	if (marks > left / ATTENTION_BYTES)
		return VMBUS_E_INVAL;
	left -= (size_t)marks * ATTENTION_BYTES;
	if (left % REPLY_BYTES || replies != left / REPLY_BYTES)
		return VMBUS_E_INVAL;
	if (!port->primary && (word || vmbus__stor_get(from + 8, 8)))
		return VMBUS_E_INVAL;
	err = vmbus__port_answers(port, replies);
	if (err)
		return err;
	if (!vmbus__state_set(port->nexus, word) ||
	    !take_attentions(port, from + HEAD_BYTES, (uint32_t)marks) ||
	    !take_replies(port, from + HEAD_BYTES + (size_t)marks * ATTENTION_BYTES,
			  (uint32_t)replies))
		return VMBUS_E_INVAL;
	if (port->primary)
		go_on(port, vmbus__stor_get(from + 8, 8), NULL);
	vmbus__task_send_replies(port);
	return 0;
}
