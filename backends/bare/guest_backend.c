/* SPDX-License-Identifier: MIT */
/*
 * The table that the guest's runtime calls: messages and signals by hypercall, the SynIC pages,
 * memory, sleep and time.  What the parent writes is checked by the functions that take it.
 */
#include "bare/bare.h"

#define LEAVE_NS 500000000u /* for an orderly end at vmbus_guest_destroy() */
#define CLOCK_TRIES 4u
#define SINT_BYTES 256u /* of a SINT in either page, [SYNIC-MESSAGE], [SYNIC-EVENT] */

static int be_post(void *ctx, uint32_t conn_id, uint32_t type, const void *payload, uint32_t bytes)
{
	struct vmbus_bare *const bare = ctx;
	const struct vmbus_hc_control control = { .code = VMBUS_HC_POST_MESSAGE };
	struct vmbus_hc_call call = {
		.code = VMBUS_HC_POST_MESSAGE, .conn_id = conn_id, .type = type, .bytes = bytes
	};
	uint8_t *const input = bare->pages_p[PAGE_INPUT];
	int put;

	if (bytes > sizeof(call.payload))
		return VMBUS_E_RANGE;
	__builtin_memcpy(call.payload, payload, bytes);
	put = vmbus_hc_encode(&call, input, VMBUS_HC_INPUT_MAX);
	if (put < 0)
		return put;
	bare->stats_p.posts++;
	return (int)(cpu_of(bare)->call(bare->cpu_ctx_p, bare->pages_p[PAGE_HYPERCALL],
					vmbus_hc_control_encode(&control),
					vmbus__bare_pfn(bare, input) * VMBUS_PAGE_BYTES, 0) &
		     0xFFFFu);
}

static int be_receive(void *ctx, uint32_t *type, void *payload, uint32_t *bytes)
{
	struct vmbus_bare *const bare = ctx;
	struct vmbus_synic_msg msg;
	bool eom = false;
	const int got = vmbus_synic_take(bare->pages_p[PAGE_MESSAGES], SINT_MESSAGE, &msg, &eom);

	if (eom) {
		wr(bare, MSR_EOM, 0);
		bare->stats_p.eoms++;
	}
	if (got < 0)
		bare->stats_p.bad_messages++;
	if (got <= 0)
		return 0;
	bare->stats_p.messages++;
	*type = msg.type;
	*bytes = msg.bytes;
	__builtin_memcpy(payload, msg.payload, msg.bytes);
	return 1;
}

static uint64_t be_flags(void *ctx, uint32_t word)
{
	const struct vmbus_bare *const bare = ctx;

	return vmbus_synic_take_flags(bare->pages_p[PAGE_FLAGS], SINT_MESSAGE, word);
}

static int be_signal(void *ctx, uint32_t conn_id, uint32_t flag)
{
	struct vmbus_bare *const bare = ctx;
	struct vmbus_hc_regs regs = { 0 };
	uint64_t result;

	vmbus_hc_encode_fast_signal(conn_id, flag, &regs);
	bare->stats_p.signals++;
	result = cpu_of(bare)->call(bare->cpu_ctx_p, bare->pages_p[PAGE_HYPERCALL], regs.control,
				    regs.in, regs.out);
	return (result & 0xFFFFu) == VMBUS_HC_OK ? 0 : VMBUS_E_AGAIN;
}

static void *be_alloc(void *ctx, size_t bytes, bool shared)
{
	(void)shared; /* all of it is reached by the parent, if we tell it */
	return vmbus__bare_alloc(ctx, bytes);
}

static void be_release(void *ctx, void *p, size_t bytes, bool shared)
{
	(void)shared;
	vmbus__bare_release(ctx, p, bytes);
}

/* UINT64_MAX: our own, or none of memory's. */
static uint64_t be_pfn(void *ctx, const void *page)
{
	const struct vmbus_bare *const bare = ctx;
	const uint64_t pfn = vmbus__bare_pfn(bare, page);

	return pfn != UINT64_MAX &&
			       pfn - bare->opts_p.memory_gpa / VMBUS_PAGE_BYTES >= bare->first_p
		       ? pfn
		       : UINT64_MAX;
}

static uint64_t be_time(void *ctx)
{
	struct vmbus_bare *const bare = ctx;
	const struct vmbus__bare_cpu *const cpu = cpu_of(bare);
	uint64_t now = 0;
	uint32_t i;
	int got = 0;

	if (bare->clock_p & (CLOCK_PAGE | CLOCK_TSC))
		for (i = 0; i < CLOCK_TRIES && !got; i++)
			got = vmbus_hv_read_tsc(bare->pages_p[PAGE_TSC],
						cpu->rdtsc(bare->cpu_ctx_p), &now);
	if (!got && bare->clock_p & CLOCK_COUNTER)
		now = rd(bare, MSR_TIME_REF_COUNT);
	if (now > bare->last_p) /* the page is the parent's, who may turn it back */
		bare->last_p = now;
	return bare->last_p;
}

/* A word of the parent's, who goes on writing. */
static uint64_t word_at(const uint8_t *page, uint32_t i)
{
	return *(const volatile uint64_t *)(const void *)(page + (size_t)SINT_MESSAGE * SINT_BYTES +
							  i * sizeof(uint64_t));
}

static bool was_told(const struct vmbus_bare *bare)
{
	return bare->woken_p || (uint32_t)word_at(bare->pages_p[PAGE_MESSAGES], 0) != 0;
}

/* Nobody tells of a flag while there are no interrupts. */
static bool something_came(const struct vmbus_bare *bare)
{
	uint32_t i;

	if (was_told(bare))
		return true;
	for (i = 0; i < VMBUS_SYNIC_FLAGS / 64u; i++)
		if (word_at(bare->pages_p[PAGE_FLAGS], i))
			return true;
	return false;
}

static void spin(struct vmbus_bare *bare, uint64_t timeout_ns)
{
	const struct vmbus__bare_cpu *const cpu = cpu_of(bare);
	const uint64_t begin = be_time(bare);

	while (!something_came(bare) && be_time(bare) - begin < timeout_ns / 100u)
		cpu->pause(bare->cpu_ctx_p);
	bare->woken_p = 0;
}

/*
 * With interrupts disabled we look once more: an interrupt that came before has left its mark, and
 * one that comes later ends the halt, for it is taken up at once by "sti; hlt".  Flags are not looked
 * at: one that nobody takes, of a channel that is not there, would keep us awake for ever.
 */
static int be_idle(void *ctx, uint64_t timeout_ns)
{
	struct vmbus_bare *const bare = ctx;
	const struct vmbus__bare_cpu *const cpu = cpu_of(bare);
	uint64_t saved;

	if (!bare->opts_p.halt || bare->opts_p.poll) {
		spin(bare, timeout_ns);
		return 0;
	}
	saved = cpu->irq_save(bare->cpu_ctx_p);
	if (!was_told(bare)) {
		bare->stats_p.halts++;
		bare->opts_p.halt(bare->opts_p.ctx, timeout_ns);
	}
	bare->woken_p = 0;
	cpu->irq_restore(bare->cpu_ctx_p, saved);
	return 0;
}

static void be_wake(void *ctx)
{
	struct vmbus_bare *const bare = ctx;

	bare->woken_p = 1;
}

static const struct vmbus_guest_backend backend = {
	.struct_bytes = sizeof(backend),
	.post = be_post,
	.receive = be_receive,
	.flags = be_flags,
	.signal = be_signal,
	.alloc = be_alloc,
	.release = be_release,
	.pfn = be_pfn,
	.idle = be_idle,
	.time = be_time,
	.wake = be_wake,
	.leave_ns = LEAVE_NS,
};

const struct vmbus_guest_backend *vmbus_bare_backend(void)
{
	return &backend;
}
