/* SPDX-License-Identifier: MIT */
/*
 * vmbus-provider: devices of this library in a process of their own, which attaches to a parent and
 * serves its children.  vmbus-provider(1).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vmbus/echo.h>
#include <vmbus/provider.h>
#include <vmbus/version.h>

#define SECOND ((uint64_t)1000000000u)

static const char usage[] =
	"usage: vmbus-provider DEVICE -s SOCKET [--name NAME] [--take-over] [--no-sandbox] "
	"[--quiet]\n"
	"       vmbus-provider --help | --version\n"
	"devices:\n"
	"  echo    sends back what a child sends; resumable\n";

struct options {
	const char *device;
	const char *socket;
	const char *name;
	bool take_over;
	bool sandbox;
	bool quiet;
};

static volatile sig_atomic_t stopped;

static void stop(int signal)
{
	(void)signal;
	stopped = 1;
}

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)fputs("vmbus-provider: ", stderr);
	(void)vfprintf(stderr, format, args);
	(void)fputc('\n', stderr);
	va_end(args);
}

static void log_line(void *ctx, enum vmbus_log_level level, const char *line)
{
	const struct options *const options = ctx;

	if (level == VMBUS_LOG_ERROR || !options->quiet)
		say("%s", line);
}

static int wrong(const char *what, const char *value)
{
	say("%s%s%s", what, value ? ": " : "", value ? value : "");
	(void)fputs(usage, stderr);
	return 2;
}

/* Returns -1 to go on, or the exit status. */
static int parse(int argc, char **argv, struct options *options)
{
	int i;

	for (i = 1; i < argc; i++) {
		const char *const arg = argv[i];
		const bool has_value = i + 1 < argc;

		if (strcmp(arg, "--help") == 0) {
			(void)fputs(usage, stdout);
			return 0;
		}
		if (strcmp(arg, "--version") == 0) {
			(void)printf("vmbus-provider %s\n", vmbus_version_string());
			return 0;
		}
		if (strcmp(arg, "--take-over") == 0)
			options->take_over = true;
		else if (strcmp(arg, "--no-sandbox") == 0)
			options->sandbox = false;
		else if (strcmp(arg, "--quiet") == 0)
			options->quiet = true;
		else if (strcmp(arg, "-s") == 0 && has_value)
			options->socket = argv[++i];
		else if (strcmp(arg, "--name") == 0 && has_value)
			options->name = argv[++i];
		else if (arg[0] != '-' && !options->device)
			options->device = arg;
		else
			return wrong(arg[0] == '-' ? "no option, or its value is missing"
						   : "one device at a time, and what is this",
				     arg);
	}
	if (!options->device)
		return wrong("which device", NULL);
	if (strcmp(options->device, "echo") != 0)
		return wrong("no such device", options->device);
	if (!options->socket)
		return wrong("of which parent: -s SOCKET is missing", NULL);
	return -1;
}

static int enter_sandbox(const struct options *options)
{
	int err;

	if (!options->sandbox) {
		say("not sandboxed, as asked for");
		return 0;
	}
	err = vmbus_provider_sandbox();
	if (!err)
		return 0;
	say("no sandbox: %s%s%s; --no-sandbox goes on without one", vmbus_err_name(err),
	    err == VMBUS_E_SYSTEM ? ": " : "", err == VMBUS_E_SYSTEM ? strerror(errno) : "");
	return 1;
}

static int serve(struct vmbus_provider *provider)
{
	int err;

	while (!stopped) {
		err = vmbus_provider_wait(provider, 3600 * SECOND);
		if (err == VMBUS_E_PEER) {
			say("%s", vmbus_provider_why(provider));
			return 3;
		}
		if (err < 0 && err != VMBUS_E_AGAIN) {
			say("waiting failed: %s", vmbus_err_name(err));
			return 1;
		}
	}
	say("stopped by a signal: leaving");
	return 0;
}

int main(int argc, char **argv)
{
	struct options options = { .sandbox = true };
	struct vmbus_provider_opts opts = { .struct_bytes = sizeof(opts),
					    .log = log_line,
					    .log_ctx = &options };
	const struct sigaction on_stop = { .sa_handler = stop };
	struct vmbus_provider *provider;
	char why[160] = "";
	int status = parse(argc, argv, &options);

	if (status >= 0)
		return status;
	(void)sigaction(SIGTERM, &on_stop, NULL);
	(void)sigaction(SIGINT, &on_stop, NULL);
	opts.path = options.socket;
	opts.name = options.name ? options.name : options.device;
	opts.vsp = vmbus_echo_vsp();
	opts.take_over = options.take_over;
	opts.why = why;
	opts.why_bytes = sizeof(why);
	status = vmbus_provider_attach(&opts, &provider);
	if (status) {
		say("cannot attach: %s (%s)", why[0] ? why : options.socket,
		    vmbus_err_name(status));
		return 1;
	}
	status = enter_sandbox(&options);
	if (!status) {
		if (!options.quiet)
			say("%s serves %s as %s", options.device, options.socket, opts.name);
		status = serve(provider);
	}
	vmbus_provider_detach(provider);
	return status;
}
