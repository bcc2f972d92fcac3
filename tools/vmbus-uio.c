/* SPDX-License-Identifier: MIT */
/* vmbus-uio: bind, unbind and list devices of this Linux guest's bus, and try an echo device. */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vmbus/uio.h>
#include <vmbus/version.h>

#include "out.h"
#include "uio.h"

static const char usage[] =
	"usage: vmbus-uio list [--json]\n"
	"       vmbus-uio bind [--force] GUID\n"
	"       vmbus-uio unbind DEVICE\n"
	"       vmbus-uio echo [--packets N] [--payload BYTES] [--window N] [--completions]\n"
	"                      [--opens N] [--timeout SECONDS] [--json] DEVICE\n"
	"       vmbus-uio --version | --help\n"
	"\n"
	"list    devices of the bus and the drivers that hold them\n"
	"bind    have uio_hv_generic hold a device, or all of a class; --force: whoever has it\n"
	"unbind  give it back to the driver that it has without us\n"
	"echo    send packets to an echo device and check what comes back\n"
	"\n"
	"GUID is that of an instance or of a class; DEVICE is one of these, or /dev/uioN.\n"
	"--sysfs PATH and --dev PATH name other places than /sys and /dev.\n";

static int wrong_usage(void)
{
	fputs(usage, stderr);
	return UIO_USAGE;
}

uint64_t uio_number(const char *word, const char *what, uint64_t max)
{
	char *end;
	unsigned long long n;

	errno = 0;
	n = strtoull(word, &end, 10);
	if (errno == 0 && *word >= '0' && *word <= '9' && *end == '\0' && n >= 1 && n <= max)
		return n;
	fprintf(stderr, "vmbus-uio: %s: %s is a number from 1 to %llu\n", word, what,
		(unsigned long long)max);
	exit(UIO_USAGE);
}

int uio_failed(const char *word, int err, const char *why)
{
	if (*why)
		fprintf(stderr, "vmbus-uio: %s\n", why);
	else
		fprintf(stderr, "vmbus-uio: %s: %s\n", word, vmbus_err_name(err));
	return UIO_FAILED;
}

struct table {
	bool json;
	unsigned int rows;
};

static void row(void *ctx, const struct vmbus_uio_info *info)
{
	struct table *const t = ctx;
	const char *const name = vmbus_class_name(&info->class_id);
	char instance[37], class_id[37], monitor[8] = "-";

	vmbus_guid_format(&info->instance_id, instance);
	vmbus_guid_format(&info->class_id, class_id);
	if (info->monitor_id != VMBUS_MONITOR_NONE)
		(void)snprintf(monitor, sizeof(monitor), "%u", info->monitor_id);
	if (t->json) {
		printf("%s\n  {\"instance_id\": \"%s\", \"class_id\": \"%s\", \"class\": \"%s\", "
		       "\"relid\": %u, \"monitor_id\": %s, \"driver\": \"%s\", \"uio\": \"%s\", "
		       "\"ring_bytes\": %u}",
		       t->rows ? "," : "", instance, class_id, name ? name : "", info->relid,
		       *monitor == '-' ? "null" : monitor, info->driver, info->uio,
		       info->ring_bytes);
	} else {
		if (t->rows == 0)
			printf("%-36s  %-12s %5s %7s  %-16s %-6s %9s  %s\n", "instance", "class",
			       "relid", "monitor", "driver", "uio", "rings KiB", "class GUID");
		printf("%-36s  %-12s %5u %7s  %-16s %-6s %9u  %s\n", instance, name ? name : "-",
		       info->relid, monitor, info->driver[0] ? info->driver : "-",
		       info->uio[0] ? info->uio : "-", info->ring_bytes / 1024, class_id);
	}
	t->rows++;
}

static int list(const struct vmbus_uio_opts *opts, bool json)
{
	struct table t = { .json = json };
	int n;

	if (json)
		printf("{\"schema\": \"vmbus-uio-list/1\", \"devices\": [");
	n = vmbus_uio_list(opts, row, &t);
	if (json)
		printf("%s], \"complete\": %s}\n", t.rows ? "\n" : "", n >= 0 ? "true" : "false");
	if (n < 0)
		return uio_failed("list", n, opts->why);
	if (n == 0 && !json)
		puts("no device is on the bus");
	return UIO_OK;
}

static int change(const struct vmbus_uio_opts *opts, bool bind)
{
	const int n = bind ? vmbus_uio_bind(opts) : vmbus_uio_unbind(opts);

	if (n < 0)
		return uio_failed(opts->device, n, opts->why);
	printf("%d device%s %s\n", n, n == 1 ? "" : "s",
	       bind ? "bound to uio_hv_generic; vmbus-uio list shows the file" : "unbound");
	return UIO_OK;
}

enum option_number {
	OPT_SYSFS = 256,
	OPT_DEV,
	OPT_FORCE,
	OPT_JSON,
	OPT_ECHO
};

/* Which options a command takes besides --sysfs and --dev. */
static bool takes(const char *command, int option)
{
	if (option == OPT_FORCE)
		return strcmp(command, "bind") == 0;
	if (option == OPT_JSON)
		return strcmp(command, "list") == 0 || strcmp(command, "echo") == 0;
	if (option >= OPT_ECHO)
		return strcmp(command, "echo") == 0;
	return true;
}

static bool parse(int argc, char **argv, struct vmbus_uio_opts *opts, struct uio_echo *echo)
{
	static const struct option longs[] = {
		{ "sysfs", required_argument, NULL, OPT_SYSFS },
		{ "dev", required_argument, NULL, OPT_DEV },
		{ "force", no_argument, NULL, OPT_FORCE },
		{ "json", no_argument, NULL, OPT_JSON },
		{ "packets", required_argument, NULL, OPT_ECHO },
		{ "payload", required_argument, NULL, OPT_ECHO + 1 },
		{ "window", required_argument, NULL, OPT_ECHO + 2 },
		{ "opens", required_argument, NULL, OPT_ECHO + 3 },
		{ "timeout", required_argument, NULL, OPT_ECHO + 4 },
		{ "completions", no_argument, NULL, OPT_ECHO + 5 },
		{ NULL, 0, NULL, 0 },
	};
	int c, at = 0;

	while ((c = getopt_long(argc, argv, "", longs, &at)) != -1) {
		if (c == '?' || c == ':')
			return false;
		if (!takes(argv[0], c)) {
			fprintf(stderr, "vmbus-uio: %s takes no --%s\n", argv[0], longs[at].name);
			return false;
		}
		if (c == OPT_SYSFS)
			opts->sysfs = optarg;
		else if (c == OPT_DEV)
			opts->dev = optarg;
		else if (c == OPT_FORCE)
			opts->force = true;
		else if (c == OPT_JSON)
			echo->json = true;
		else
			uio_echo_option(echo, longs[at].name, optarg);
	}
	return true;
}

static bool is_command(const char *word)
{
	static const char *const commands[] = { "list", "bind", "unbind", "echo" };
	size_t i;

	for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(word, commands[i]) == 0)
			return true;
	fprintf(stderr, "vmbus-uio: %s: no such command\n", word);
	return false;
}

static int command(int argc, char **argv)
{
	char why[400] = "";
	struct vmbus_uio_opts opts = { .struct_bytes = sizeof(opts),
				       .why = why,
				       .why_bytes = sizeof(why) };
	struct uio_echo echo = {
		.packets = 1000, .payload = 64, .window = 64, .opens = 1, .timeout_s = 30
	};
	const int words = strcmp(argv[0], "list") == 0 ? 0 : 1;

	if (!parse(argc, argv, &opts, &echo))
		return wrong_usage();
	if (argc - optind != words) {
		fprintf(stderr, "vmbus-uio: %s\n",
			words == 0	     ? "list takes no further word"
			: argc - optind == 0 ? "which device? vmbus-uio list shows them"
					     : "one device at a time");
		return wrong_usage();
	}
	if (words == 0)
		return list(&opts, echo.json);
	opts.device = argv[optind];
	if (strcmp(argv[0], "echo") == 0)
		return uio_echo(&opts, &echo);
	return change(&opts, strcmp(argv[0], "bind") == 0);
}

static int run(int argc, char **argv)
{
	if (argc < 2)
		return wrong_usage();
	if (strcmp(argv[1], "--version") == 0) {
		printf("vmbus-uio %s\n", vmbus_version_string());
		return UIO_OK;
	}
	if (strcmp(argv[1], "--help") == 0) {
		fputs(usage, stdout);
		return UIO_OK;
	}
	if (!is_command(argv[1]))
		return wrong_usage();
	return command(argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
	return out_status("vmbus-uio", run(argc, argv));
}
