/* SPDX-License-Identifier: MIT */
/*
 * Lines of text for people.  Whatever the child does, at most log_lines_max come through in a second;
 * the next line that does is preceded by one that tells how many did not.
 */
#include "bus/bus.h"

#include <stdio.h>

#define WINDOW_NS 1000000000u
#define LINE_BYTES 320u

static void tell(struct vmbus_bus *bus, enum vmbus_log_level level, const char *format,
		 va_list args)
{
	char line[LINE_BYTES];
	int n = snprintf(line, sizeof(line), "%s: ", bus->name);

	if (n < 0 || (size_t)n >= sizeof(line))
		return;
	(void)vsnprintf(line + n, sizeof(line) - (size_t)n, format, args);
	bus->opts.log(bus->opts.log_ctx, level, line);
}

__attribute__((format(printf, 3, 4))) static void
tell_one(struct vmbus_bus *bus, enum vmbus_log_level level, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	tell(bus, level, format, args);
	va_end(args);
}

/* Whether one line more may come through now. */
static bool admit(struct vmbus_bus *bus)
{
	const uint64_t now = vmbus__now();

	if (bus->log_window == 0 || now - bus->log_window >= WINDOW_NS) {
		bus->log_window = now;
		bus->log_count = 0;
	}
	return bus->log_count < bus->opts.log_lines_max;
}

void vmbus__log(struct vmbus_bus *bus, enum vmbus_log_level level, const char *format, ...)
{
	va_list args;

	if (!bus->opts.log)
		return;
	if (!admit(bus)) {
		bus->log_held++;
		bus->log_dropped++;
		return;
	}
	if (bus->log_held) {
		tell_one(bus, VMBUS_LOG_ERROR, "%llu messages were left out",
			 (unsigned long long)bus->log_held);
		bus->log_held = 0;
		bus->log_count++;
	}
	bus->log_count++;
	va_start(args, format);
	tell(bus, level, format, args);
	va_end(args);
}

/* Tell what the machine has refused since the last time. */
void vmbus__log_refusal(struct vmbus_bus *bus)
{
	struct vmbus_srv_refusal why;

	vmbus_srv_last_refusal(bus->srv, &why);
	if (why.count == bus->refusals)
		return;
	bus->refusals = why.count;
	vmbus__log(bus, VMBUS_LOG_ERROR,
		   "channel %u: message %s refused: %s: value %llu, limit %llu, page list %u, "
		   "state %s",
		   why.relid, vmbus_ctl_type_name(why.ctl_type), why.what,
		   (unsigned long long)why.value, (unsigned long long)why.limit, why.gpadl,
		   vmbus_srv_state_name(why.state));
}
