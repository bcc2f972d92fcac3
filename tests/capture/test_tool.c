/* SPDX-License-Identifier: MIT */
/* vmbusctl capture and replay as people run them, and what other programs make of the files. */
#include "shm/guests.h"

#include <pthread.h>
#include <sys/stat.h>

struct out {
	char text[1 << 20]; /* standard output and standard error */
	int status;
	int done;
	char command[1024];
	pthread_t thread;
};

static const char *build(void)
{
	const char *dir = getenv("VMBUS_BUILD_DIR");

	return dir ? dir : ".";
}

static const char *source(void)
{
	const char *dir = getenv("VMBUS_SOURCE_DIR");

	return dir ? dir : ".";
}

static bool there_is_no_tool(void)
{
	char path[512];

	(void)snprintf(path, sizeof(path), "%s/tools/vmbusctl", build());
	return access(path, X_OK) != 0;
}

static void *run_command(void *arg)
{
	struct out *const out = arg;
	FILE *pipe = popen(out->command, "re");
	size_t len;
	int status;

	must(pipe != NULL);
	len = fread(out->text, 1, sizeof(out->text) - 1, pipe);
	out->text[len] = 0;
	status = pclose(pipe);
	out->status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	__atomic_store_n(&out->done, 1, __ATOMIC_RELEASE);
	return NULL;
}

static struct out *tool(const char *format, ...) __attribute__((format(printf, 1, 2)));
static struct out *tool(const char *format, ...)
{
	static struct out out;
	va_list args;
	int n;

	memset(&out, 0, sizeof(out));
	n = snprintf(out.command, sizeof(out.command), "%s/tools/vmbusctl ", build());
	va_start(args, format);
	n += vsnprintf(out.command + n, sizeof(out.command) - (size_t)n, format, args);
	va_end(args);
	(void)snprintf(out.command + n, sizeof(out.command) - (size_t)n, " 2>&1");
	return &out;
}

static struct out *run(struct out *out)
{
	(void)run_command(out);
	return out;
}

/* The tool in a thread, while this one serves. */
static struct out *run_served(struct host *host, struct out *out)
{
	must_eq(pthread_create(&out->thread, NULL, run_command, out), 0);
	host_until(host, __atomic_load_n(&out->done, __ATOMIC_ACQUIRE));
	must_eq(pthread_join(out->thread, NULL), 0);
	return out;
}

static void needs(struct out *out, int status, const char *text)
{
	if (out->status != status || !strstr(out->text, text))
		ck_abort_msg("%s: status %d: %s", out->command, out->status, out->text);
}

/* Nothing waits for the tool: on a busy machine records can be dropped, and then it captures again. */
static void captures_all(struct host *host, const char *file)
{
	struct out *out;
	uint32_t tries = 0;

	do {
		out = run_served(host,
				 tool("capture -s %s -c guest -n 400 -w %s", host->path, file));
		needs(out, 0, "400 packets captured, ");
	} while (!strstr(out->text, ", 0 records dropped") && ++tries < 30);
	needs(out, 0, "400 packets captured, 0 records dropped");
}

START_TEST(vmbusctl_capture__usage)
{
	if (there_is_no_tool())
		VMBUS_TEST_SKIP("vmbusctl is not built");
	unsetenv("VMBUS_SOCKET");
	needs(run(tool("capture -s x")), 2, "no file");
	needs(run(tool("capture -w x")), 2, "no socket");
	needs(run(tool("capture -s x -w x more")), 2, "more: capture takes no such word");
	needs(run(tool("capture -s x -w x -r 0")), 2, "a number from 1 to 2047");
	needs(run(tool("capture -s x -w x --snap 262145")), 2, "a number from 1 to 262144");
	needs(run(tool("capture -s x -w x -n -1")), 2, "a number from 1");
	needs(run(tool("capture --print x -w y")), 2, "captures nothing");
	needs(run(tool("capture -w x --json")), 2, "--json belongs to --print");
	needs(run(tool("capture --frob")), 2, "frob");
	needs(run(tool("capture -s /tmp/no-such-socket -w /dev/null")), 1, "no parent listens");
	needs(run(tool("capture --print /tmp/no-such-file")), 1, "No such file");
	needs(run(tool("capture --print /dev/null")), 1, "no pcapng file");
	needs(run(tool("replay")), 2, "one file");
	needs(run(tool("replay --vsp frob x")), 2, "frob: no such device; there is: echo");
	needs(run(tool("replay --channel 4096 x")), 2, "channels are 0 to 4095");
	needs(run(tool("replay /tmp/no-such-file")), 1, "No such file");
	needs(run(tool("replay /dev/null")), 1, "no pcapng file");
}
END_TEST

START_TEST(vmbusctl_replay__of_files_in_the_tree)
{
	static char first[65536];
	struct out *out;

	if (there_is_no_tool())
		VMBUS_TEST_SKIP("vmbusctl is not built");
	out = run(tool("replay --vsp echo %s/tests/fuzz/corpus/fuzz_capture/session", source()));
	needs(out, 0,
	      "2 openings, 10 packets in 4 batches fed; 10 captured, 10 sent: 0 differences");
	needs(run(tool("replay %s/tests/fuzz/corpus/fuzz_capture/snap", source())), 1, "was cut");
	needs(run(tool("replay --channel 1 %s/tests/fuzz/corpus/fuzz_capture/session", source())),
	      1, "no record of channel 1");
	out = run(tool("replay %s/tests/fuzz/corpus/fuzz_capture/broken", source()));
	needs(out, 1, "the channel is not broken, the captured one was: wanted");
	memcpy(first, out->text, sizeof(first) - 1);
	out = run(tool("replay %s/tests/fuzz/corpus/fuzz_capture/broken", source()));
	must(strcmp(first, out->text) == 0);
}
END_TEST

/* A live session, captured by the tool, printed, and replayed. */
START_TEST(vmbusctl_capture__a_session_and_its_replay)
{
	const struct job job = { .channels = 2, .payload = 512, .ring = 65536, .forever = true };
	char file[64];
	struct host host;
	struct out *out;
	struct stat st;
	pid_t pid;

	if (there_is_no_tool())
		VMBUS_TEST_SKIP("vmbusctl is not built");
	(void)snprintf(file, sizeof(file), "/tmp/vmbus-capture-%d.pcapng", (int)getpid());
	(void)umask(022);
	host_init(&host);
	host.channels = 2;
	host.opts.allow_capture = true;
	host_listen(&host);
	pid = guest_start(host.path, &job);
	host_until(&host, __atomic_load_n(&host.packets, __ATOMIC_RELAXED) > 100);
	needs(run_served(&host, tool("capture -s %s -c nobody -w %s", host.path, file)), 1,
	      "no such channel");
	needs(run_served(&host, tool("capture -s %s -r 99 -w %s", host.path, file)), 1,
	      "no such channel");
	needs(run_served(&host, tool("capture -s %s -w /no/such/dir/x", host.path)), 1,
	      "No such file or directory");
	needs(run_served(&host, tool("capture -s %s -c guest -n 400 -w /dev/full", host.path)), 1,
	      "/dev/full: No space left on device");
	captures_all(&host, file);
	must_eq(stat(file, &st), 0);
	must_eq(st.st_mode & 07777, 0600);
	must_eq(chmod(file, 0644), 0); /* as one of before */
	captures_all(&host, file);
	must_eq(stat(file, &st), 0);
	must_eq(st.st_mode & 07777, 0600);
	out = run(tool("capture --print %s", file));
	needs(out, 0, "wants completion");
	needs(out, 0, "#1 ");
	out = run(tool("capture --print %s --json | python3 -m json.tool", file));
	needs(out, 0, "\"complete\": true");
	needs(out, 0, "\"kind\": \"channel\"");
	/* The echo device of this file keeps to the capture, whichever of the two it is. */
	needs(run(tool("replay --channel 0 %s", file)), 0, " 0 differences");
	needs(run(tool("replay --channel 1 %s", file)), 0, " 0 differences");
	needs(run_served(&host, tool("capture -s %s -r 1 --snap 8 -n 20 -w - 2>/dev/null | cat >%s",
				     host.path, file)),
	      0, "");
	needs(run(tool("capture --print %s", file)), 0, "(8 kept)");
	kill(pid, SIGKILL);
	must_eq(guest_end(&host, pid), 1000 + SIGKILL);
	host_close(&host);
	unlink(file);
}
END_TEST

/* Wireshark's own programs read the files without a complaint. */
START_TEST(vmbusctl_capture__files_are_pcapng_for_others)
{
	static struct out out;

	if (system("command -v tshark >/dev/null && command -v capinfos >/dev/null") != 0)
		VMBUS_TEST_SKIP("tshark and capinfos are not installed");
	(void)snprintf(out.command, sizeof(out.command),
		       "capinfos %s/tests/fuzz/corpus/fuzz_capture/session 2>&1", source());
	needs(run(&out), 0, "Number of packets:   25");
	needs(&out, 0, "Encapsulation = USER 0");
	needs(&out, 0, "Name = kid:1");
	(void)snprintf(out.command, sizeof(out.command),
		       "HOME=/tmp tshark -r %s/tests/fuzz/corpus/fuzz_capture/session -T fields "
		       "-e frame.len -e frame.packet_flags_direction -e frame.packet_id -e "
		       "frame.comment 2>&1",
		       source());
	memset(out.text, 0, sizeof(out.text));
	(void)run(&out);
	needs(&out, 0, "\n40\t0x00000001\t2");
	needs(&out, 0, "\n40\t0x00000002\t5");
	needs(&out, 0, "open: rings of 4096 and 8192 bytes");
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "tool", 60);

	tcase_add_test(tc, vmbusctl_capture__usage);
	tcase_add_test(tc, vmbusctl_replay__of_files_in_the_tree);
	tcase_add_test(tc, vmbusctl_capture__a_session_and_its_replay);
	tcase_add_test(tc, vmbusctl_capture__files_are_pcapng_for_others);
}

VMBUS_TEST_MAIN("capture.tool", tests)
