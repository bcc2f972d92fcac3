/* SPDX-License-Identifier: MIT */
/* Ports of this machine that a command line plugs into a switch. */
#include "sw.h"

#include <stdio.h>
#include <string.h>

static int add(struct sw_plugs *plugs, const char *text)
{
	char why[NIC_WHY_BYTES];

	if (plugs->count == SW_PLUGS_MAX)
		return sw_usage("%s: %u ports are the most", text, SW_PLUGS_MAX);
	if (nic_parse(&plugs->spec[plugs->count], text, why) ||
	    nic_alone(plugs->spec, plugs->count, why))
		return sw_usage("%s", why);
	plugs->count++;
	return 0;
}

int sw_plugs_word(struct sw_plugs *plugs, int argc, char **argv, int *i)
{
	const char *const word = argv[*i];
	const char *prefix;
	char text[1024];

	if (strcmp(word, "--user") == 0)
		return add(plugs, "user");
	if (strcmp(word, "--tap") == 0)
		prefix = "tap=";
	else if (strcmp(word, "--packet") == 0)
		prefix = "packet=";
	else if (strcmp(word, "--port") == 0)
		prefix = "";
	else
		return SW_GONE;
	if (*i + 1 >= argc)
		return sw_usage("%s needs a value", word);
	(void)snprintf(text, sizeof(text), "%s%s", prefix, argv[++*i]);
	return add(plugs, text);
}

static int open_one(struct sw_plugs *plugs, uint32_t i, struct vmbus_switch *sw,
		    void (*changed)(void *ctx))
{
	struct nic_spec *const spec = &plugs->spec[i];
	const struct nic_events events = { .changed = changed,
					   .log = sw_line,
					   .ctx = plugs->name[i] };
	static const char *const kinds[] = { [NIC_NULL] = "null",
					     [NIC_TAP] = "tap",
					     [NIC_USER] = "user",
					     [NIC_PACKET] = "packet",
					     [NIC_SWITCH] = "switch" };
	char why[NIC_WHY_BYTES], source[21];
	int err;

	(void)snprintf(source, sizeof(source), "%.20s", spec->source);
	(void)snprintf(plugs->name[i], sizeof(plugs->name[i]), "%s%s%s", kinds[spec->kind],
		       source[0] ? "=" : "", source);
	if (nic_open(spec, "vmbus-switch", &events, &plugs->port[i], why))
		return sw_failed("%s", why);
	plugs->open = i + 1;
	err = vmbus_switch_plug(sw, plugs->name[i], &plugs->port[i], NULL);
	return err ? sw_failed("%s: cannot be plugged in: %s", plugs->name[i], vmbus_err_name(err))
		   : 0;
}

int sw_plugs_open(struct sw_plugs *plugs, struct vmbus_switch *sw, void (*changed)(void *ctx))
{
	uint32_t i;
	int err = 0;

	for (i = 0; i < plugs->count && !err; i++)
		err = open_one(plugs, i, sw, changed);
	return err;
}

bool sw_plugs_make_sockets(const struct sw_plugs *plugs)
{
	uint32_t i;

	for (i = 0; i < plugs->count; i++)
		if (plugs->spec[i].kind == NIC_USER)
			return true;
	return false;
}

void sw_plugs_close(struct sw_plugs *plugs)
{
	while (plugs->open)
		nic_close(&plugs->port[--plugs->open]);
}
