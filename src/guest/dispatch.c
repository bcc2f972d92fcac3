/* SPDX-License-Identifier: MIT */
/*
 * Dispatch: four sources of work take turns, so that none of them keeps the others waiting however
 * much of it there is: messages of the parent's, actions of the machine (the posting of our own
 * messages among them), channels whose life goes on, channels with packets.
 *
 * Nothing here waits.  A message that cannot be posted now is tried again when its time has come;
 * vmbus_guest_timeout() says when that is.
 */
#include "guest/state.h"

/* Units of work of one source before the next one has its turn. */
#define TURN 16u

/* Pace of retries, in 100 ns: from 1 us, doubled up to 100 ms. */
#define PACE_FIRST 10u
#define PACE_MOST 1000000u

/* How often a connection that does not exist is tried again, and a backend that fails. */
#define TRIES_MAX 100u

/* How long to sleep at most while something has to be looked at without a wake-up. */
#define LOOK_NS 1000000u

/* Statuses of the hypercall, [HC-STATUS]. */
#define HV_NO_MEMORY 0x0Bu
#define HV_NO_CONNECTION 0x12u
#define HV_NO_BUFFERS 0x13u
#define HV_TIMEOUT 0x78u

static void queue_push(struct vmbus__queue *queue, struct vmbus_vsc *vsc, bool work)
{
	struct vmbus_vsc **next = work ? &vsc->work_next : &vsc->ready_next;

	*next = NULL;
	if (!queue->first)
		queue->first = vsc;
	else if (work)
		queue->last->work_next = vsc;
	else
		queue->last->ready_next = vsc;
	queue->last = vsc;
}

void vmbus__work_push(struct vmbus_vsc *vsc)
{
	if (vsc->on_work)
		return;
	vsc->on_work = true;
	queue_push(&vsc->guest->work, vsc, true);
	vmbus__guest_note(vsc->guest);
}

void vmbus__ready_push(struct vmbus_vsc *vsc)
{
	if (vsc->on_ready || vsc->opts.own_thread || vsc->opts.poll)
		return;
	vsc->on_ready = true;
	queue_push(&vsc->guest->ready, vsc, false);
	vmbus__guest_note(vsc->guest);
}

void vmbus__guest_asked(struct vmbus_guest *guest)
{
	guest->cli_drained = false;
	vmbus__guest_note(guest);
}

/* Within dispatch there is no need: it looks at all that is due before it returns. */
void vmbus__guest_note(struct vmbus_guest *guest)
{
	if (!guest->busy && guest->be->wake)
		guest->be->wake(guest->be_ctx);
}

/* A callback may have asked for a pause amid a step: the rest of the step waits for its end. */
bool vmbus__cli_retry(struct vmbus_guest *guest, int err)
{
	if (err == 0)
		guest->cli_drained = false;
	if (err == VMBUS_E_FULL && (guest->posting || !guest->cli_drained))
		guest->cli_wait = VMBUS__WAIT_POSTED;
	else if (err == VMBUS_E_AGAIN || (err == VMBUS_E_STATE && guest->pause != VMBUS__PAUSE_OFF))
		guest->cli_wait = VMBUS__WAIT_ACTIONS;
	else
		return false;
	return true;
}

static struct vmbus_vsc *channel(struct vmbus_guest *guest, struct vmbus_cli_ref ref)
{
	struct vmbus_vsc *const vsc = ref.slot < guest->chans_max ? guest->by_slot[ref.slot] : NULL;

	return vsc && vsc->ref.gen == ref.gen ? vsc : NULL;
}

static void log_post(struct vmbus_guest *guest, uint32_t status)
{
	const struct vmbus__words words = { .what = "could not be posted",
					    .name = vmbus_ctl_type_name(guest->post.ctl_type),
					    .status = status,
					    .status_name = vmbus_hc_status_name(status) };

	vmbus__guest_log_status(guest, 0, &words);
}

/*
 * Tell the machine what became of the message that was posted.  It may hand out again what met no
 * connection, so that this was tried often enough is a status of its own.
 */
static void posted(struct vmbus_guest *guest, uint32_t status)
{
	/* A parent without the port of newer versions is none of the log's business. */
	const bool expected =
		guest->state == VMBUS_GUEST_GONE ||
		(status == HV_NO_CONNECTION && guest->post.ctl_type == VMBUS_CTL_CONTACT);

	if (status && !expected)
		log_post(guest, status);
	if (status == HV_NO_CONNECTION && !expected)
		status = HV_TIMEOUT;
	guest->posting = false;
	guest->cli_wait = VMBUS__WAIT_NOTHING;
	guest->cli_drained = false;
	(void)vmbus_cli_posted(guest->cli, status);
}

/* Try again later, each time after twice as long. */
static void post_later(struct vmbus_guest *guest, uint64_t now)
{
	guest->post_due = now + guest->post_pace;
	guest->post_pace *= 2;
	if (guest->post_pace > PACE_MOST)
		guest->post_pace = PACE_MOST;
}

/* Post the message that waits, if its time has come.  Returns whether it is done with. */
static bool try_post(struct vmbus_guest *guest)
{
	const struct vmbus_cli_action *const post = &guest->post;
	const uint64_t now = guest->be->time(guest->be_ctx);
	uint32_t hv;
	int status;

	if (guest->state == VMBUS_GUEST_GONE) {
		posted(guest, HV_NO_CONNECTION);
		return true;
	}
	if (!guest->post_flying && now < guest->post_due)
		return false;
	status = guest->be->post(guest->be_ctx, post->conn_id, VMBUS_MSG_TYPE_CTL, post->bytes,
				 post->len);
	guest->post_flying = status == VMBUS_E_AGAIN;
	hv = status < 0 ? HV_NO_CONNECTION : (uint32_t)status;
	if (status == VMBUS_E_AGAIN || hv == HV_NO_MEMORY || hv == HV_NO_BUFFERS) {
		post_later(guest, now);
		return false;
	}
	if ((hv == HV_NO_CONNECTION && post->ctl_type != VMBUS_CTL_CONTACT) || status < 0) {
		if (++guest->post_tries < TRIES_MAX) {
			post_later(guest, now);
			return false;
		}
	}
	posted(guest, hv);
	return true;
}

static void begin_post(struct vmbus_guest *guest)
{
	guest->post = guest->action;
	guest->posting = true;
	guest->post_flying = false;
	guest->post_tries = 0;
	guest->post_due = 0;
	guest->post_pace = PACE_FIRST;
	(void)try_post(guest);
}

/* The channel of an offer that there was no memory for: nobody uses it, so let go of it. */
static void release_unknown(struct vmbus_guest *guest, struct vmbus_cli_ref ref)
{
	if (guest->pause != VMBUS__PAUSE_OFF ||
	    vmbus__cli_retry(guest, vmbus_cli_release(guest->cli, ref)))
		guest->unknown_rescinds = true;
}

static void release_all_unknown(struct vmbus_guest *guest)
{
	struct vmbus_cli_info info;
	uint32_t i;

	guest->unknown_rescinds = false;
	for (i = 0; i < guest->chans_max && !guest->cli_wait; i++)
		if (!guest->by_slot[i] && vmbus_cli_info(guest->cli, i, &info) == 1 &&
		    info.state == VMBUS_CLI_RESCINDED_CLOSED)
			release_unknown(guest, info.chan);
}

static void channel_action(struct vmbus_guest *guest, const struct vmbus_cli_action *action)
{
	struct vmbus_vsc *const vsc = channel(guest, action->chan);

	if (action->act == VMBUS_CLI_OFFERED) {
		vmbus__vsc_offered(guest, action->chan);
	} else if (action->act == VMBUS_CLI_RESCINDED) {
		if (vsc)
			vmbus__vsc_rescinded(vsc);
		else
			release_unknown(guest, action->chan);
	} else if (vsc && action->act == VMBUS_CLI_OPENED) {
		vmbus__vsc_opened(vsc, action->status);
	} else if (vsc && action->act == VMBUS_CLI_MODIFIED) {
		if (action->status)
			vmbus__guest_log_refusal(vsc, "the parent refused another VP",
						 action->status);
		vmbus__ready_push(vsc);
	}
}

static void carry_out(struct vmbus_guest *guest)
{
	const struct vmbus_cli_action *const action = &guest->action;

	switch (action->act) {
	case VMBUS_CLI_POST:
		begin_post(guest);
		break;
	case VMBUS_CLI_ALL_OFFERED:
		if (guest->state == VMBUS_GUEST_CONNECTING)
			guest->state = VMBUS_GUEST_CONNECTED;
		break;
	case VMBUS_CLI_REFUSED:
		if (guest->state == VMBUS_GUEST_LEAVING)
			guest->state = VMBUS_GUEST_IDLE;
		else if (guest->state != VMBUS_GUEST_GONE)
			guest->state = VMBUS_GUEST_REFUSED;
		break;
	case VMBUS_CLI_UNLOADED:
	case VMBUS_CLI_TL_RESULT:
	case VMBUS_CLI_PAUSED:
	case VMBUS_CLI_CONNECTION_MODIFIED:
		vmbus__conn_action(guest, action);
		break;
	case VMBUS_CLI_GPADL_READY:
	case VMBUS_CLI_GPADL_GONE:
	case VMBUS_CLI_GPADL_LOST:
		vmbus__list_event(guest, action);
		break;
	default:
		channel_action(guest, action);
		break;
	}
}

/* Source 1: messages of the parent's. */
static uint32_t messages(struct vmbus_guest *guest, uint32_t budget)
{
	uint8_t payload[VMBUS_CTL_BYTES_MAX];
	uint32_t type, bytes, n;

	for (n = 0; n < budget; n++) {
		bytes = 0;
		type = 0;
		if (guest->be->receive(guest->be_ctx, &type, payload, &bytes) != 1)
			break;
		if (bytes > sizeof(payload))
			bytes = sizeof(payload);
		if (type != VMBUS_MSG_TYPE_CTL || guest->state == VMBUS_GUEST_GONE)
			continue;
		/* What became of a contact is there before its answer, which is taken for one to it only then. */
		if (guest->post_flying && guest->posting &&
		    guest->post.ctl_type == VMBUS_CTL_CONTACT)
			(void)try_post(guest);
		(void)vmbus_cli_message(guest->cli, payload, bytes);
		guest->cli_drained = false;
	}
	return n;
}

/* Source 2: what the machine wants done. */
static uint32_t actions(struct vmbus_guest *guest, uint32_t budget)
{
	uint32_t n = 0;

	if (guest->posting && try_post(guest))
		n++;
	for (; n < budget; n++) {
		if (vmbus_cli_next(guest->cli, &guest->action) != 1) {
			guest->cli_drained = true;
			if (!guest->posting || guest->cli_wait == VMBUS__WAIT_ACTIONS)
				guest->cli_wait = VMBUS__WAIT_NOTHING;
			break;
		}
		carry_out(guest);
	}
	return n;
}

/* Whether the machine takes requests about channels now. */
static bool may_ask(const struct vmbus_guest *guest)
{
	return !guest->cli_wait && guest->pause == VMBUS__PAUSE_OFF;
}

/* Source 3: channels whose life goes on. */
static uint32_t work(struct vmbus_guest *guest, uint32_t budget)
{
	struct vmbus_vsc *vsc;
	uint32_t n;

	if (guest->unknown_rescinds && may_ask(guest))
		release_all_unknown(guest);
	for (n = 0; n < budget && may_ask(guest) && guest->work.first; n++) {
		vsc = guest->work.first;
		guest->work.first = vsc->work_next;
		vsc->on_work = false;
		vmbus__vsc_step(vsc);
		if (guest->cli_wait) /* then it has more to ask for, and lives */
			vmbus__work_push(vsc);
	}
	return n;
}

/* Source 4: the next channel with packets. */
static uint32_t packets(struct vmbus_guest *guest, uint32_t budget)
{
	struct vmbus_vsc *const vsc = guest->ready.first;
	uint32_t done;
	bool more;

	if (!vsc)
		return 0;
	guest->ready.first = vsc->ready_next;
	vsc->on_ready = false;
	if (vsc->life != VMBUS__LIFE_OPEN) {
		vmbus__work_push(vsc); /* it may have waited for its turn to be forgotten */
		return 1;
	}
	done = vmbus__vsc_run(vsc, budget < VMBUS__CHAN_TURN ? budget : VMBUS__CHAN_TURN, &more);
	if (more)
		vmbus__ready_push(vsc);
	return done + 1;
}

static void take_flags(struct vmbus_guest *guest)
{
	struct vmbus_vsc *vsc;
	uint64_t bits;
	uint32_t i;

	for (i = 0; i < guest->flag_words; i++) {
		for (bits = guest->be->flags(guest->be_ctx, i); bits; bits &= bits - 1) {
			vsc = guest->by_relid[i * 64u + (uint32_t)__builtin_ctzll(bits)];
			if (!vsc || vsc->life != VMBUS__LIFE_OPEN)
				continue; /* an open channel is looked at when it is opened */
			if (vsc->opts.own_thread && vsc->opts.wake)
				vsc->opts.wake(vsc);
			else
				vmbus__ready_push(vsc);
		}
	}
}

/* Channels with a thread of their own that has left. */
static void look_at_own(struct vmbus_guest *guest)
{
	struct vmbus_vsc *vsc;

	for (vsc = guest->own; vsc; vsc = vsc->own_next)
		if (vmbus__own_left(vsc))
			vmbus__work_push(vsc);
}

/* Signals that the backend did not take. */
static void signal_again(struct vmbus_guest *guest)
{
	struct vmbus_vsc *vsc;

	guest->signals_wait = false;
	for (vsc = guest->first; vsc; vsc = vsc->next)
		if (vsc->life == VMBUS__LIFE_OPEN && !vsc->opts.own_thread &&
		    vsc->path.signal_again)
			vmbus__vsc_signal(vsc);
}

/* Leaving with no version agreed on: the contact is given up, nothing was shared. */
static void leave_contact(struct vmbus_guest *guest)
{
	vmbus_cli_disconnect(guest->cli);
	guest->cli_drained = false;
	if (guest->posting && !guest->post_flying)
		posted(guest, HV_NO_CONNECTION);
}

/* Leaving: close what is open, take back what is shared, and when all is over, unload. */
static void leave(struct vmbus_guest *guest)
{
	struct vmbus_vsc *vsc;
	bool over = true;

	guest->leave_look = false;
	guest->leave_later = false;
	if (vmbus_cli_version(guest->cli) == 0) {
		leave_contact(guest); /* or the connection has ended, and its end is told soon */
		return;
	}
	if (guest->pause != VMBUS__PAUSE_OFF && vmbus_guest_resume(guest)) {
		guest->leave_later = true; /* the answer to the pause comes first */
		return;
	}
	for (vsc = guest->first; vsc; vsc = vsc->next) {
		vmbus__shares_take_back(vsc);
		(void)vmbus_vsc_close(vsc);
		if (vsc->life != VMBUS__LIFE_CLOSED || vsc->shares)
			over = false;
	}
	if (!over || guest->unload_asked)
		return;
	if (vmbus_cli_unload(guest->cli)) {
		guest->leave_later = true; /* not now: messages are still under way */
		return;
	}
	guest->unload_asked = true;
	guest->cli_drained = false;
}

/* The end of a connection, when everything of it is forgotten. */
static void look_at_end(struct vmbus_guest *guest)
{
	if (guest->state == VMBUS_GUEST_LEAVING && (guest->leave_look || guest->leave_later) &&
	    !guest->unloaded)
		leave(guest);
	if (guest->unloaded && guest->chans == 0) {
		guest->unloaded = false;
		guest->unload_asked = false;
		if (guest->state == VMBUS_GUEST_LEAVING)
			guest->state = VMBUS_GUEST_IDLE;
	}
}

/* Whether something was put before a source of work that may have had its turn already. */
static bool has_more(const struct vmbus_guest *guest)
{
	return !guest->cli_drained || (guest->work.first && may_ask(guest));
}

typedef uint32_t source_fn(struct vmbus_guest *guest, uint32_t budget);

int vmbus__guest_run(struct vmbus_guest *guest, uint32_t budget)
{
	static source_fn *const sources[] = { messages, actions, work, packets };
	const uint32_t count = sizeof(sources) / sizeof(sources[0]);
	uint32_t done = 0, idle = 0, got, want;

	guest->busy = true;
	if (guest->parent_gone && !guest->parent_lost) {
		guest->parent_lost = true;
		vmbus_cli_disconnect(guest->cli);
		guest->cli_drained = false;
		guest->pause = guest->pause == VMBUS__PAUSE_ON ? VMBUS__PAUSE_OFF : guest->pause;
		vmbus__monitor_over(guest, true);
	}
	take_flags(guest);
	look_at_own(guest);
	if (guest->signals_wait)
		signal_again(guest);
	while (done < budget && idle < count) {
		want = budget - done;
		if (sources[guest->turn] != packets && want > TURN)
			want = TURN;
		got = sources[guest->turn](guest, want);
		guest->turn = (guest->turn + 1) % count;
		done += got;
		look_at_end(guest);
		idle = got || has_more(guest) ? 0 : idle + 1;
	}
	guest->busy = false;
	return (int)(done < INT32_MAX ? done : INT32_MAX);
}

int vmbus_guest_dispatch(struct vmbus_guest *guest, uint32_t budget)
{
	return guest->busy ? VMBUS_E_STATE : vmbus__guest_run(guest, budget);
}

/* Whether something was noted that the next dispatch does without a wake-up. */
bool vmbus__guest_due(const struct vmbus_guest *guest)
{
	return has_more(guest) || guest->ready.first || guest->parent_gone != guest->parent_lost ||
	       (guest->unknown_rescinds && may_ask(guest)) ||
	       (guest->state == VMBUS_GUEST_LEAVING && guest->leave_look && !guest->unloaded);
}

uint64_t vmbus_guest_timeout(const struct vmbus_guest *guest)
{
	uint64_t now, left = UINT64_MAX;
	const struct vmbus_vsc *vsc;

	if (vmbus__guest_due(guest))
		return 0;
	if (guest->posting) {
		now = guest->be->time(guest->be_ctx);
		left = guest->post_due > now ? (guest->post_due - now) * 100u : 0;
	}
	if (left > LOOK_NS) {
		if (guest->signals_wait)
			return LOOK_NS;
		for (vsc = guest->own; vsc; vsc = vsc->own_next) {
			if (vmbus__own_left(vsc) && !vsc->on_work)
				return 0;
			if (vsc->life == VMBUS__LIFE_STOPPING)
				left = LOOK_NS;
		}
	}
	return left;
}
