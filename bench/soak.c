/* SPDX-License-Identifier: MIT */
/*
 * vmbus-bench soak: many children with echo devices, disks and NICs for minutes or hours, while
 * children and providers are killed at random, providers are replaced, and devices, disks, links and
 * switch ports come and go.  Memory, descriptors, threads and latencies are taken in windows, and the
 * last quarter is judged against the first.
 */
#include "soak.h"

#include "chan_pair.h"
#include "run.h"
#include "words.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define STEP_US 20000u
#define KILL_CHILD_NS SOAK_SECOND
#define KILL_PROVIDER_NS (7 * SOAK_SECOND)
#define LOOK_NS SOAK_SECOND
#define STALL_NS (30 * SOAK_SECOND)
#define BEGIN_NS (60 * SOAK_SECOND)
#define END_NS (30 * SOAK_SECOND)

const char *const soak_series_name[SOAK_SERIES] = {
	[SOAK_ECHO] = "echo",
	[SOAK_BLOCK] = "block",
	[SOAK_NET] = "net",
	[SOAK_ECHO_OUT] = "echo-provider",
	[SOAK_BLOCK_OUT] = "block-provider",
	[SOAK_BLOCK_STEADY] = "block-steady",
	[SOAK_NET_OUT] = "net-provider",
	[SOAK_CONTROL] = "control",
};

const char *const soak_deed_name[SOAK_DEEDS] = {
	[SOAK_KILL_CHILD] = "children_killed", [SOAK_KILL_PROVIDER] = "providers_killed",
	[SOAK_HAND_OVER] = "hand_overs",       [SOAK_REVOKE] = "devices_withdrawn",
	[SOAK_LUN_ADD] = "disks_added",	       [SOAK_LUN_REMOVE] = "disks_removed",
	[SOAK_LINK] = "links_changed",	       [SOAK_PLUG] = "ports_joined_and_left",
};

/* Providers, in the order of their series. */
#define PROVIDERS 4u
static const enum soak_series served[PROVIDERS] = { SOAK_ECHO_OUT, SOAK_BLOCK_OUT,
						    SOAK_BLOCK_STEADY, SOAK_NET_OUT };

struct soak {
	struct soak_run run;
	struct soak_shared *shared;
	char path[SOAK_PATH_BYTES];
	pid_t parent, control, provider[PROVIDERS], child[SOAK_CHILDREN_MAX];
	uint64_t random;
	uint64_t kill_ns, provider_ns, look_ns;
	bool stalled[SOAK_CHILDREN_MAX];
};

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
	(void)number;
	interrupted = 1;
}

static void usage(void)
{
	fputs("usage: vmbus-bench soak [options]\n"
	      "\n"
	      "A parent with many children, each with echo devices, disks and NICs, for a long "
	      "time:\n"
	      "children and providers are killed at random, devices, disks, links and switch "
	      "ports\n"
	      "come and go.  Memory, descriptors, threads and latencies must stay flat.\n"
	      "\n"
	      "  --minutes N      1 to 1440; 60\n"
	      "  --children N     16 to 256; 64\n"
	      "  --seed N         of what is done to whom; 1\n"
	      "  --json FILE      write figures as JSON, after each window; - for stdout, at the "
	      "end\n"
	      "  --svg FILE       write a drawing, after each window\n"
	      "  --help           this text\n"
	      "\n"
	      "A signal (SIGINT, SIGTERM) ends it in order, with what there is.\n"
	      "Exit status: 0 all is flat; 1 it is not, or something was wrong, or it was ended; "
	      "2\n"
	      "bad option; 3 this machine cannot do it.\n",
	      stdout);
}

/* ---- processes ---- */

static pid_t start(void)
{
	const pid_t pid = fork();

	if (pid < 0)
		die(BENCH_EXIT_MACHINE, "fork: %s", strerror(errno));
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)signal(SIGINT, SIG_IGN);
		(void)signal(SIGTERM, SIG_DFL);
	}
	return pid;
}

static void end(pid_t *pid)
{
	if (*pid > 0) {
		(void)kill(*pid, SIGKILL);
		(void)waitpid(*pid, NULL, 0);
	}
	*pid = 0;
}

static void start_child(struct soak *s, uint32_t i)
{
	const uint64_t seed = soak_random(&s->random);

	memset(s->shared->seat[i].last_ns, 0, sizeof(s->shared->seat[i].last_ns));
	store32(&s->shared->seat[i].ready, 0);
	s->stalled[i] = false;
	s->child[i] = start();
	if (s->child[i] == 0)
		_exit(soak_child(s->shared, s->path, i, seed));
}

static void start_provider(struct soak *s, uint32_t i, bool take_over)
{
	s->provider[i] = start();
	if (s->provider[i] == 0)
		_exit(soak_provider(s->shared, s->path, served[i], take_over));
}

static bool until32(const uint32_t *word, uint32_t value, uint64_t ns)
{
	const uint64_t late = now_ns() + ns;

	while (load32(word) != value && now_ns() < late)
		(void)usleep(STEP_US / 20);
	return load32(word) == value;
}

static bool begin(struct soak *s)
{
	const uint64_t seed = soak_random(&s->random);

	s->parent = start();
	if (s->parent == 0)
		_exit(soak_parent(s->shared, s->path, seed));
	if (!until32(&s->shared->listening, 1, BEGIN_NS))
		return false;
	for (uint32_t i = 0; i < PROVIDERS; i++)
		start_provider(s, i, false);
	s->control = start();
	if (s->control == 0)
		_exit(soak_control(s->shared));
	(void)usleep(500000);
	(void)soak_look(s->parent, &s->run.before);
	for (uint32_t i = 0; i < s->run.children; i++)
		start_child(s, i);
	for (uint32_t i = 0; i < s->run.children; i++)
		if (!until32(&s->shared->seat[i].ready, 1, BEGIN_NS))
			return false;
	return true;
}

/* ---- deeds ---- */

static void kill_child(struct soak *s)
{
	const uint32_t i = SOAK_STEADY + soak_random(&s->random) % (s->run.children - SOAK_STEADY);

	if (s->child[i] <= 0)
		return;
	end(&s->child[i]);
	soak_count(&s->shared->deed[SOAK_KILL_CHILD]);
	start_child(s, i);
}

/* Not the third, which stays; a NIC cannot be handed over. */
static void kill_provider(struct soak *s)
{
	static const uint32_t mortal[] = { 0, 1, 3 };
	const uint32_t i = mortal[soak_random(&s->random) % 3u];
	pid_t old = s->provider[i];

	if (served[i] != SOAK_NET_OUT && soak_random(&s->random) % 2u) {
		start_provider(s, i, true);
		for (uint32_t n = 0; n < 500 && waitpid(old, NULL, WNOHANG) == 0; n++)
			(void)usleep(STEP_US / 2);
		if (kill(old, 0) == 0)
			end(&old);
		soak_count(&s->shared->deed[SOAK_HAND_OVER]);
		return;
	}
	end(&s->provider[i]);
	soak_count(&s->shared->deed[SOAK_KILL_PROVIDER]);
	start_provider(s, i, false);
}

/* Those that ended by themselves, which none should, and those that stand still. */
static void look_after(struct soak *s, uint64_t now)
{
	for (uint32_t i = 0; i < s->run.children; i++) {
		const struct soak_seat *const seat = &s->shared->seat[i];

		if (waitpid(s->child[i], NULL, WNOHANG) == s->child[i]) {
			fprintf(stderr, "\nvmbus-bench: child %u ended by itself\n", i);
			s->run.exits++;
			start_child(s, i);
		}
		for (uint32_t k = 0; k < SOAK_DEVICES && !s->stalled[i]; k++) {
			const uint64_t last = load64(&seat->last_ns[k]);

			if (!last || last > now || now - last < STALL_NS)
				continue;
			fprintf(stderr, "\nvmbus-bench: child %u, process %d: %s stands still\n", i,
				(int)s->child[i], soak_series_name[k]);
			s->stalled[i] = true;
			s->run.stalls++;
		}
	}
	for (uint32_t i = 0; i < PROVIDERS; i++) {
		if (waitpid(s->provider[i], NULL, WNOHANG) != s->provider[i])
			continue;
		fprintf(stderr, "\nvmbus-bench: the provider of %s ended by itself\n",
			soak_series_name[served[i]]);
		s->run.exits++;
		start_provider(s, i, false);
	}
}

/* ---- the run ---- */

/* 60 windows, of 5 s at least and a minute at most, but no more than there is room for. */
static uint64_t window_of(uint64_t whole)
{
	uint64_t ns = whole / 60;

	if (ns < 5 * SOAK_SECOND)
		ns = 5 * SOAK_SECOND;
	if (ns > 60 * SOAK_SECOND)
		ns = 60 * SOAK_SECOND;
	return ns < whole / SOAK_WINDOWS_MAX ? whole / SOAK_WINDOWS_MAX + 1 : ns;
}

static void step(struct soak *s, uint64_t now)
{
	if (now >= s->kill_ns) {
		kill_child(s);
		s->kill_ns += KILL_CHILD_NS;
	}
	if (now >= s->provider_ns) {
		kill_provider(s);
		s->provider_ns += KILL_PROVIDER_NS;
	}
	if (now >= s->look_ns) {
		soak_sample(&s->run, s->parent, s->provider[2], s->child);
		look_after(s, now);
		s->look_ns = now + LOOK_NS;
	}
}

/* What there is so far is kept in files, should the run not come to its end. */
static void keep(const struct soak *s)
{
	if (s->run.json && strcmp(s->run.json, "-"))
		(void)soak_json(&s->run, s->run.json);
	if (s->run.svg)
		(void)soak_svg(&s->run, s->run.svg);
}

static void soak(struct soak *s)
{
	const uint64_t whole = (uint64_t)(s->run.minutes * 60e9), from = now_ns();
	const uint64_t window_ns = window_of(whole);
	uint64_t now = from, begun = from;

	store32(&s->shared->plugging, 1);
	s->run.from_ns = from;
	s->kill_ns = now + KILL_CHILD_NS;
	s->provider_ns = now + KILL_PROVIDER_NS;
	soak_open_window(&s->run, now);
	while (now - from < whole && !interrupted) {
		step(s, now);
		(void)usleep(STEP_US);
		now = now_ns();
		if (now - begun < window_ns)
			continue;
		soak_close_window(&s->run, now);
		keep(s);
		if (s->run.windows == SOAK_WINDOWS_MAX)
			break;
		soak_open_window(&s->run, now);
		begun = now;
	}
	s->run.complete = !interrupted;
}

/* Children leave in order; what the parent has left without any is compared with its begin. */
static void finish(struct soak *s)
{
	const uint64_t late = now_ns() + END_NS;

	store32(&s->shared->stop, 1);
	for (uint32_t i = 0; i < s->run.children; i++) {
		while (s->child[i] > 0 && waitpid(s->child[i], NULL, WNOHANG) == 0 &&
		       now_ns() < late)
			(void)usleep(STEP_US / 4);
		if (s->child[i] > 0 && kill(s->child[i], 0) == 0) {
			fprintf(stderr, "vmbus-bench: child %u did not leave\n", i);
			s->run.stalls++;
			end(&s->child[i]);
		}
	}
	if (!until32(&s->shared->children, 0, END_NS))
		s->run.stalls++;
	(void)usleep(500000);
	(void)soak_look(s->parent, &s->run.after);
	store32(&s->shared->stop_all, 1);
	for (uint32_t n = 0; n < 200 && waitpid(s->parent, NULL, WNOHANG) == 0; n++)
		(void)usleep(STEP_US);
	if (kill(s->parent, 0) == 0) {
		fputs("vmbus-bench: the parent does not end\n", stderr);
		s->run.stalls++;
	}
	end(&s->parent);
	end(&s->control);
	for (uint32_t i = 0; i < PROVIDERS; i++)
		end(&s->provider[i]);
	(void)unlink(s->path);
}

/* ---- options ---- */

enum {
	OPT_MINUTES = 256,
	OPT_CHILDREN,
	OPT_SEED,
	OPT_JSON,
	OPT_SVG,
	OPT_HELP
};

static const struct option long_options[] = {
	{ "minutes", required_argument, NULL, OPT_MINUTES },
	{ "children", required_argument, NULL, OPT_CHILDREN },
	{ "seed", required_argument, NULL, OPT_SEED },
	{ "json", required_argument, NULL, OPT_JSON },
	{ "svg", required_argument, NULL, OPT_SVG },
	{ "help", no_argument, NULL, OPT_HELP },
	{ NULL, 0, NULL, 0 },
};

static void take(struct soak_run *run, int c, const char *arg)
{
	switch (c) {
	case OPT_MINUTES:
		run->minutes = (double)word_number64("--minutes", arg, 1, 1440);
		break;
	case OPT_CHILDREN:
		run->children = word_number("--children", arg, 2 * SOAK_STEADY, SOAK_CHILDREN_MAX);
		break;
	case OPT_SEED:
		run->seed = word_number64("--seed", arg, 0, UINT64_MAX);
		break;
	case OPT_JSON:
		run->json = arg;
		break;
	case OPT_SVG:
		run->svg = arg;
		break;
	case OPT_HELP:
		usage();
		exit(BENCH_EXIT_OK);
	default:
		die(BENCH_EXIT_USAGE, "see vmbus-bench soak --help");
	}
}

static void parse(struct soak_run *run, int argc, char **argv)
{
	int c;

	run->minutes = 60;
	run->children = 64;
	run->seed = 1;
	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1)
		take(run, c, optarg);
	if (optind < argc)
		die(BENCH_EXIT_USAGE, "%s: expected options only", argv[optind]);
	word_writable("--json", run->json);
	word_writable("--svg", run->svg);
}

int soak_main(int argc, char **argv)
{
	struct soak *const s = must_alloc(sizeof(*s));
	struct sigaction on = { .sa_handler = on_signal };
	bool good;
	FILE *to;

	memset(s, 0, sizeof(*s));
	parse(&s->run, argc, argv);
	s->random = s->run.seed;
	pair_path(s->path, sizeof(s->path));
	s->shared = s->run.shared = shared_map(sizeof(*s->shared));
	if (!s->shared)
		die(BENCH_EXIT_MACHINE, "no shared memory: %s", strerror(errno));
	s->shared->count = s->run.children;
	(void)sigaction(SIGINT, &on, NULL);
	(void)sigaction(SIGTERM, &on, NULL);
	if (begin(s)) {
		soak(s);
	} else {
		fputs("vmbus-bench: not all could begin\n", stderr);
		s->run.stalls++;
	}
	finish(s);
	to = s->run.json && !strcmp(s->run.json, "-") ? stderr : stdout;
	good = soak_judge(&s->run);
	soak_report(&s->run, to);
	good = soak_faults(&s->run, to) == 0 && good && s->run.complete;
	if (s->run.json && soak_json(&s->run, s->run.json))
		die(BENCH_EXIT_FAILED, "--json %s: %s", s->run.json, strerror(errno));
	if (s->run.svg && soak_svg(&s->run, s->run.svg))
		die(BENCH_EXIT_FAILED, "--svg %s: %s", s->run.svg, strerror(errno));
	free(s);
	return good ? BENCH_EXIT_OK : BENCH_EXIT_FAILED;
}
