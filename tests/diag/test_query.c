/* SPDX-License-Identifier: MIT */
/*
 * DIAG and RECORDS on the socket: vmbus_shm_diag(), vmbus_shm_records(), parents that lie to them,
 * and the records that a parent leaves behind.
 */
#include "diag/broken.h"

#include <dirent.h>

#include "../../backends/shm/diag_proto.h"
#include "shm/liar.h"

struct told {
	uint32_t buses, chans, records, empty, events, wrong;
	uint64_t packets;
	char name[64];
	struct vmbus_chan_diag chan; /* the last one */
	struct vmbus_bus_diag bus;
};

struct asker {
	pthread_t thread;
	const char *path;
	struct told told;
	int result, done;
	bool records;
};

static void told_bus(void *ctx, const struct vmbus_shm_child_info *info,
		     const struct vmbus_bus_diag *diag)
{
	struct told *const t = ctx;

	t->buses++;
	t->bus = *diag;
	t->wrong += strcmp(diag->name, info->name) != 0 || !diag->refusal.what;
	(void)snprintf(t->name, sizeof(t->name), "%s", info->name);
}

static void told_chan(void *ctx, const struct vmbus_chan_diag *diag)
{
	struct told *const t = ctx;

	t->chans++;
	t->chan = *diag;
	t->packets += diag->info.recv.packets;
	t->wrong += strcmp(diag->info.vsp, "echo") != 0 || !diag->refused || !diag->info.state ||
		    diag->info.relid == 0;
}

static void count_event(void *ctx, const struct vmbus_record_event *event)
{
	struct told *const t = ctx;

	(void)event;
	t->events++;
}

static void told_record(void *ctx, const struct vmbus_shm_child_info *info, const void *mem,
			size_t bytes)
{
	struct told *const t = ctx;
	struct vmbus_record_info record;

	t->records++;
	t->wrong += !info->name[0];
	if (!mem) {
		t->empty++;
		t->wrong += bytes != 0;
		return;
	}
	t->wrong += vmbus_record_read(mem, bytes, &record, count_event, t) != 0;
}

static void *ask(void *arg)
{
	static const struct vmbus_shm_diag_ops ops = { .struct_bytes = sizeof(ops),
						       .bus = told_bus,
						       .channel = told_chan };
	struct asker *const a = arg;

	a->result = a->records
			    ? vmbus_shm_records(a->path, 10ull * SECOND_NS, told_record, &a->told)
			    : vmbus_shm_diag(a->path, 10ull * SECOND_NS, &ops, &a->told);
	__atomic_store_n(&a->done, 1, __ATOMIC_RELEASE);
	return NULL;
}

static void ask_host(struct host *host, struct asker *a, bool records)
{
	memset(a, 0, sizeof(*a));
	a->path = host->path;
	a->records = records;
	must_eq(pthread_create(&a->thread, NULL, ask, a), 0);
	host_until(host, __atomic_load_n(&a->done, __ATOMIC_ACQUIRE));
	must_eq(pthread_join(a->thread, NULL), 0);
	must_eq(a->told.wrong, 0);
}

START_TEST(shm_diag__tells_buses_and_channels)
{
	const struct job few = { .channels = 3, .payload = 100, .ring = 4096, .forever = true };
	static struct asker a;
	struct host host;
	pid_t pid[2];

	host_open(&host);
	ask_host(&host, &a, false);
	must_eq(a.result, 0);
	must_eq(a.told.buses, 0);
	host.channels = 1500; /* more than a socket's buffer holds */
	pid[0] = guest_start(host.path, &few);
	host_until(&host, host.packets > 100);
	ask_host(&host, &a, false);
	must_eq(a.result, 1500);
	must_eq(a.told.chans, 1500);
	must_eq(a.told.buses, 1);
	must(a.told.packets > 100);
	must_eq(a.told.bus.version, VMBUS_PROTO_5_3);
	must(a.told.bus.contact && a.told.bus.offers >= a.told.bus.contact);
	must(a.told.bus.now > a.told.bus.created);
	ck_assert_str_eq(a.told.name, "guest");
	pid[1] = guest_start(host.path, &few);
	host_until(&host, host.attached == 2);
	ask_host(&host, &a, false);
	must_eq(a.result, 3000);
	kid_kill(&host, pid[0]);
	kid_kill(&host, pid[1]);
	host_close(&host);
}
END_TEST

START_TEST(shm_diag__steps_of_an_open_channel)
{
	const struct job one = { .channels = 1, .payload = 64, .ring = 8192, .forever = true };
	const struct vmbus_chan_diag *d;
	static struct asker a;
	struct host host;
	pid_t pid;

	host_init(&host);
	host.channels = 1;
	host.opts.record_bytes = 4096;
	host_listen(&host);
	pid = guest_start(host.path, &one);
	host_until(&host, host.packets > 1000);
	ask_host(&host, &a, false);
	d = &a.told.chan;
	must_eq(d->state, VMBUS_SRV_OPENED);
	must_eq(d->waits, 0);
	must(d->steps[VMBUS_STEP_OFFERED] <= d->steps[VMBUS_STEP_TOLD]);
	must(d->steps[VMBUS_STEP_TOLD] <= d->steps[VMBUS_STEP_GPADL]);
	must(d->steps[VMBUS_STEP_GPADL] <= d->steps[VMBUS_STEP_OPEN]);
	must(d->steps[VMBUS_STEP_OPEN] <= d->steps[VMBUS_STEP_OPENED]);
	must(d->steps[VMBUS_STEP_OPENED] <= d->steps[VMBUS_STEP_ACCEPTED]);
	must_eq(d->steps[VMBUS_STEP_CLOSE] + d->steps[VMBUS_STEP_FAULT], 0);
	must(d->since && d->since <= d->now);
	must_eq(d->from_child.size, 8192);
	must_eq(d->to_child.size, 8192);
	must(d->from_child_ok && d->to_child_ok);
	must(d->signals > 0 && d->raised > 0);
	must(d->signal_at > 0 && d->raised_at > 0);
	must_eq(d->info.opens, 1);
	kid_kill(&host, pid);
	host_close(&host);
}
END_TEST

START_TEST(shm_diag__errors)
{
	struct vmbus_shm_diag_ops ops = { .struct_bytes = sizeof(ops) };
	struct host host;

	host_open(&host);
	must_eq(vmbus_shm_diag(host.path, 50000000, &ops, NULL), VMBUS_E_AGAIN); /* no dispatch */
	must_eq(vmbus_shm_diag(host.path, 0, NULL, NULL), VMBUS_E_INVAL);
	ops.struct_bytes = 1;
	must_eq(vmbus_shm_diag(host.path, 0, &ops, NULL), VMBUS_E_INVAL);
	ops.struct_bytes = sizeof(ops);
	must_eq(vmbus_shm_diag("", 0, &ops, NULL), VMBUS_E_RANGE);
	must_eq(vmbus_shm_diag("/tmp/no such socket", 0, &ops, NULL), VMBUS_E_SYSTEM);
	must_eq(vmbus_shm_records(host.path, 50000000, told_record, NULL), VMBUS_E_AGAIN);
	must_eq(vmbus_shm_records(host.path, 0, NULL, NULL), VMBUS_E_INVAL);
	must_eq(vmbus_shm_records("", 0, told_record, NULL), VMBUS_E_RANGE);
	host_close(&host);
}
END_TEST

START_TEST(shm_listen__refuses_record_options)
{
	struct host host;

	host_init(&host);
	host.opts.record_dir = "/tmp";
	must_eq(vmbus_shm_listen(&host.opts, &host.server), VMBUS_E_RANGE);
	host.opts.record_bytes = VMBUS_RECORD_BYTES_MIN - 1;
	must_eq(vmbus_shm_listen(&host.opts, &host.server), VMBUS_E_RANGE);
	host.opts.record_bytes = ((uint64_t)64 << 20) + 1;
	must_eq(vmbus_shm_listen(&host.opts, &host.server), VMBUS_E_RANGE);
	host.opts.record_bytes = VMBUS_RECORD_BYTES_MIN;
	must_eq(vmbus_shm_listen(&host.opts, &host.server), 0);
	host_close(&host);
}
END_TEST

START_TEST(shm_records__of_children_with_and_without)
{
	static struct asker a;
	struct host host;
	pid_t pid;

	host_init(&host);
	host.channels = 1;
	host.opts.record_bytes = 100000; /* many messages */
	host_listen(&host);
	pid = kid_start(&host, KID_OPENS);
	host_until(&host, host.attached == 1);
	serve_for(&host, SECOND_NS / 5);
	ask_host(&host, &a, true);
	must_eq(a.result, 1);
	must_eq(a.told.records, 1);
	must_eq(a.told.empty, 0);
	must(a.told.events > 10);
	kid_kill(&host, pid);
	host_close(&host);
	host_open(&host);
	pid = kid_start(&host, KID_NO_CONTACT);
	host_until(&host, host.attached == 1);
	ask_host(&host, &a, true);
	must_eq(a.result, 1);
	must_eq(a.told.empty, 1);
	kid_kill(&host, pid);
	host_close(&host);
}
END_TEST

/* Parents that answer with what they like. */

static void send_dg(int sock, const struct vmbus__dg_msg *msg)
{
	uint8_t bytes[VMBUS_SHM_MSG_MAX];

	(void)send(sock, bytes, vmbus__dg_encode(msg, bytes), 0);
}

static void send_child(int sock)
{
	struct vmbus__shm_msg msg = { .type = VMBUS_SHM_CHILD };

	memcpy(msg.u.child.name, "x\033[2Jy", 7);
	raw_say(sock, &msg);
}

static void send_end(int sock, uint32_t children, uint32_t channels)
{
	struct vmbus__shm_msg msg = { .type = VMBUS_SHM_LIST_END };

	msg.u.end.children = children;
	msg.u.end.channels = channels;
	raw_say(sock, &msg);
}

#define LIES 14

/* Lines in an order that cannot be, and counts that are not theirs. */
static void lie_lines(int sock, int n)
{
	const struct vmbus__dg_msg bus = { .type = VMBUS_DG_BUS }, chan = { .type = VMBUS_DG_CHAN };

	if (n >= 2 && n <= 4)
		send_child(sock);
	switch (n) {
	case 0: /* a channel of no bus */
	case 2: /* or before its bus */
		send_dg(sock, &chan);
		break;
	case 1: /* a bus of no child */
		send_dg(sock, &bus);
		break;
	case 3: /* two buses of one child */
		send_dg(sock, &bus);
		send_dg(sock, &bus);
		break;
	case 4: /* another count */
		send_dg(sock, &bus);
		send_end(sock, 1, 1);
		break;
	default:
		send_end(sock, 7, 0);
		break;
	}
}

/* Parts of a record that do not fit together. */
static void lie_parts(int sock, int n)
{
	struct vmbus__dg_msg part = { .type = VMBUS_DG_PART };

	part.part.total = n == 8 ? UINT64_MAX : 2000; /* 8: more than anybody keeps */
	part.part.offset = n == 6 ? 900 : 0;	      /* 6: behind a gap */
	part.part.bytes = n == 9 ? 0 : 900;	      /* 9: nothing, for ever */
	send_child(sock);
	send_dg(sock, &part);
	if (n == 7) /* it ends early */
		send_end(sock, 1, 0);
	part.part.offset = 900;
	part.part.total = 2001;
	if (n == 10) /* another length in the middle */
		send_dg(sock, &part);
}

static void lie(int sock, int n)
{
	const struct vmbus__dg_msg bus = { .type = VMBUS_DG_BUS }, chan = { .type = VMBUS_DG_CHAN };
	struct vmbus__shm_msg text = { .type = VMBUS_SHM_REFUSED };
	uint8_t bytes[VMBUS_SHM_MSG_MAX];

	if (n < 6)
		lie_lines(sock, n);
	else if (n < 11)
		lie_parts(sock, n);
	switch (n) {
	case 11: /* a length that is not the type's */
		(void)send(sock, bytes, vmbus__dg_encode(&chan, bytes) - 8, 0);
		break;
	case 12: /* a text without an end */
		send_child(sock);
		send_dg(sock, &bus);
		(void)vmbus__dg_encode(&chan, bytes);
		memset(bytes + 16, 'A', 624);
		(void)send(sock, bytes, vmbus__dg_msg_bytes(VMBUS_DG_CHAN), 0);
		break;
	case 13: /* a parent of before */
		text.u.text.code = VMBUS_SHM_CODE_MESSAGE;
		raw_say(sock, &text);
		break;
	default:
		break;
	}
	(void)!read(sock, bytes, sizeof(bytes));
}

/* Lie _i towards both queries: PEER, within the time, and nothing is believed. */
START_TEST(shm_diag__hostile_parent)
{
	const int want = _i == 13 ? VMBUS_E_NOTSUP : VMBUS_E_PEER;
	static struct asker a;
	struct liar liar;
	int round;

	for (round = 0; round < 2; round++) {
		memset(&a, 0, sizeof(a));
		liar_start(&liar, lie, _i);
		a.path = liar.path;
		a.records = round == 1;
		(void)ask(&a);
		must_eq(a.result, want);
		must_eq(a.told.chans + a.told.events, 0);
		liar_end(&liar);
	}
}
END_TEST

/* What a walk writes it reads again, and no byte string makes it read past its end. */
START_TEST(dg_decode__round_trip_and_noise)
{
	uint8_t bytes[VMBUS_SHM_MSG_MAX], again[VMBUS_SHM_MSG_MAX];
	static struct vmbus__dg_msg msg;
	uint64_t seed = 1;
	uint32_t type, round, i, len;

	for (type = 0; type < 64; type++)
		must((vmbus__dg_msg_bytes(type) != 0) ==
		     (type >= VMBUS_DG_FIRST && type < VMBUS_DG_END));
	for (round = 0; round < 3000; round++) {
		type = VMBUS_DG_FIRST + round % (VMBUS_DG_END - VMBUS_DG_FIRST);
		memset(&msg, 0, sizeof(msg));
		msg.type = type;
		len = vmbus__dg_encode(&msg, bytes);
		must_eq(len, vmbus__dg_msg_bytes(type));
		for (i = 16; i < len; i++) {
			seed = seed * 6364136223846793005ull + 1442695040888963407ull;
			bytes[i] = (uint8_t)(seed >> 56);
		}
		if (vmbus__dg_decode(bytes, len, &msg))
			continue;
		must_eq(msg.type, type);
		must_eq(vmbus__dg_encode(&msg, again), len);
		must_eq(vmbus__dg_decode(again, len, &msg), 0);
	}
	must_eq(vmbus__dg_decode(bytes, 15, &msg), VMBUS_E_PEER);
	msg.type = VMBUS_DG_DIAG;
	len = vmbus__dg_encode(&msg, bytes);
	must_eq(vmbus__dg_type_of(bytes, len), VMBUS_DG_DIAG);
	must_eq(vmbus__dg_type_of(bytes, len - 1), 0);
	bytes[4] ^= 2;
	must_eq(vmbus__dg_decode(bytes, len, &msg), VMBUS_E_NOTSUP);
	bytes[4] ^= 2;
	bytes[6] = 5;
	must_eq(vmbus__dg_decode(bytes, len, &msg), VMBUS_E_INVAL);
	bytes[0] ^= 1;
	must_eq(vmbus__dg_decode(bytes, len, &msg), VMBUS_E_PEER);
}
END_TEST

/* Every number of a snapshot comes through: each has its own value, and is at the same place. */
START_TEST(dg_encode__every_member)
{
	static struct vmbus__dg_msg msg, back;
	uint8_t bytes[VMBUS_SHM_MSG_MAX];
	uint32_t i;

	msg.type = VMBUS_DG_CHAN;
	msg.chan.info.vsp = "net";
	msg.chan.refused = "because";
	msg.chan.info.relid = 3;
	msg.chan.info.fault.limit = 9;
	msg.chan.info.send.full = 10;
	msg.chan.info.recv.faults = 11;
	msg.chan.info.bad_completions = 12;
	msg.chan.need = 13;
	msg.chan.raised_at = 14;
	msg.chan.to_child.used = 15;
	msg.chan.owner = 16;
	msg.chan.under_way = 17;
	msg.chan.under_way_since = 18;
	msg.chan.to_child_ok = msg.chan.own_fd = true;
	msg.chan.state = VMBUS_SRV_OPENED;
	for (i = 0; i < VMBUS_STEPS; i++)
		msg.chan.steps[i] = 100 + i;
	must_eq(vmbus__dg_decode(bytes, vmbus__dg_encode(&msg, bytes), &back), 0);
	ck_assert_str_eq(back.chan.info.vsp, "net");
	ck_assert_str_eq(back.chan.refused, "because");
	ck_assert_str_eq(back.chan.info.state, "opened");
	must_eq(back.chan.info.relid, 3);
	must_eq(back.chan.info.fault.limit, 9);
	must_eq(back.chan.info.send.full, 10);
	must_eq(back.chan.info.recv.faults, 11);
	must_eq(back.chan.info.bad_completions, 12);
	must_eq(back.chan.need, 13);
	must_eq(back.chan.raised_at, 14);
	must_eq(back.chan.to_child.used, 15);
	must_eq(back.chan.owner, 16);
	must_eq(back.chan.under_way, 17);
	must_eq(back.chan.under_way_since, 18);
	must(back.chan.to_child_ok && back.chan.own_fd && !back.chan.foreign);
	for (i = 0; i < VMBUS_STEPS; i++)
		must_eq(back.chan.steps[i], 100 + i);
	memset(&msg, 0, sizeof(msg));
	msg.type = VMBUS_DG_BUS;
	msg.bus.refusal.what = "wrong";
	msg.bus.stats.debt = 20;
	msg.bus.stats.srv.gpadl_bytes = 21;
	must_eq(vmbus__dg_decode(bytes, vmbus__dg_encode(&msg, bytes), &back), 0);
	ck_assert_str_eq(back.bus.refusal.what, "wrong");
	must_eq(back.bus.stats.debt, 20);
	must_eq(back.bus.stats.srv.gpadl_bytes, 21);
}
END_TEST

/* Files of records. */

static char folder[64];

static unsigned int count_files(void)
{
	DIR *const dir = opendir(folder);
	struct dirent *entry;
	unsigned int n = 0;

	must(dir != NULL);
	while ((entry = readdir(dir)))
		n += strstr(entry->d_name, ".vmbusrec") != NULL;
	closedir(dir);
	return n;
}

static void open_folder(struct host *host, uint32_t most)
{
	(void)snprintf(folder, sizeof(folder), "/tmp/vmbus-rec-XXXXXX");
	must(mkdtemp(folder) != NULL);
	host_init(host);
	host->channels = 1;
	host->opts.record_dir = folder;
	host->opts.record_bytes = 8192;
	host->opts.records_max = most;
	host_listen(host);
}

static void remove_folder(void)
{
	char command[128];

	(void)snprintf(command, sizeof(command), "rm -r %s", folder);
	must_eq(system(command), 0);
}

START_TEST(shm_listen__record_of_a_child_that_died_stays)
{
	char command[768], line[256];
	struct stat st;
	struct host host;
	pid_t pid;
	FILE *pipe;
	bool found = false;

	NEED_TOOL();
	open_folder(&host, 0);
	pid = kid_start(&host, KID_OPENS);
	host_until(&host, host.attached == 1);
	serve_for(&host, SECOND_NS / 5);
	must_eq(count_files(), 1);
	kid_kill(&host, pid);
	host_spin(&host);
	must_eq(count_files(), 1);
	(void)snprintf(command, sizeof(command), "%s/guest-%d.vmbusrec", folder, (int)pid);
	must_eq(stat(command, &st), 0);
	must_eq(st.st_mode & 0777, 0600);
	must_eq(st.st_size, 8192);
	(void)snprintf(command, sizeof(command), "%s record %s/guest-%d.vmbusrec", tool(), folder,
		       (int)pid);
	pipe = popen(command, "re");
	must(pipe != NULL);
	while (fgets(line, sizeof(line), pipe))
		found = found || strstr(line, "ended: 1, ") != NULL; /* enum vmbus_shm_end: died */
	must_eq(pclose(pipe), 0);
	must(found);
	(void)snprintf(command, sizeof(command), "%s record --json %s/guest-%d.vmbusrec", tool(),
		       folder, (int)pid);
	pipe = popen(command, "re");
	must(pipe != NULL);
	must(fgets(line, sizeof(line), pipe) != NULL);
	must(strstr(line, "vmbusctl-record/1") != NULL);
	while (fgets(line, sizeof(line), pipe))
		;
	must_eq(pclose(pipe), 0);
	must(strstr(line, "\"complete\": true") != NULL);
	host_close(&host);
	remove_folder();
}
END_TEST

START_TEST(shm_listen__record_of_a_child_that_left_goes)
{
	const struct job one = { .channels = 1, .requests = 5, .payload = 64, .ring = 4096 };
	struct host host;
	pid_t pid;

	open_folder(&host, 0);
	pid = guest_start(host.path, &one);
	host_until(&host, host.attached == 1);
	must_eq(count_files(), 1);
	must_eq(guest_end(&host, pid), 0);
	host_until(&host, host.detached == 1);
	host_spin(&host);
	must_eq(count_files(), 0);
	host_close(&host);
	remove_folder();
}
END_TEST

/* The oldest go; that of a child which is there does not. */
START_TEST(shm_listen__records_are_bounded)
{
	struct host host;
	pid_t pid, stays;
	int i;

	open_folder(&host, 3);
	stays = kid_start(&host, KID_NO_CONTACT);
	host_until(&host, host.attached == 1);
	for (i = 0; i < 5; i++) {
		pid = kid_start(&host, KID_NO_CONTACT);
		host_until(&host, host.attached == 2u + (unsigned int)i);
		must(count_files() <= 3);
		kid_kill(&host, pid);
		host_spin(&host);
	}
	must_eq(count_files(), 3);
	{
		char path[160];

		(void)snprintf(path, sizeof(path), "%s/guest-%d.vmbusrec", folder, (int)stays);
		must_eq(access(path, F_OK), 0);
	}
	kid_kill(&host, stays);
	host_close(&host);
	remove_folder();
}
END_TEST

/* A folder that is not there, or is full of records in use: no record, and a child all the same. */
START_TEST(shm_listen__no_room_for_a_record)
{
	struct host host;
	pid_t pid, other;

	open_folder(&host, 1);
	pid = kid_start(&host, KID_NO_CONTACT);
	host_until(&host, host.attached == 1);
	other = kid_start(&host, KID_NO_CONTACT);
	host_until(&host, host.attached == 2);
	must(host.child != NULL);
	must_eq(count_files(), 1);
	kid_kill(&host, other);
	kid_kill(&host, pid);
	host_close(&host);
	remove_folder();
	host_init(&host);
	host.opts.record_dir = folder;
	host.opts.record_bytes = 4096;
	host_listen(&host);
	pid = kid_start(&host, KID_NO_CONTACT);
	host_until(&host, host.attached == 1);
	kid_kill(&host, pid);
	host_close(&host);
}
END_TEST

static void parent_that_dies(const char *path, const char *dir)
{
	static struct host host;

	host_init(&host);
	(void)snprintf(host.path, sizeof(host.path), "%s", path);
	host.channels = 1;
	host.opts.record_dir = dir;
	host.opts.record_bytes = 8192;
	host_listen(&host);
	alarm(60);
	for (;;)
		(void)vmbus_shm_server_run(host.server, SECOND_NS);
}

/* The parent is killed: what it wrote last is in the file. */
START_TEST(shm_listen__record_survives_the_parent)
{
	static uint8_t bytes[8192] __attribute__((aligned(64)));
	struct vmbus_record_info info;
	static struct told told;
	struct host host;
	char path[160];
	pid_t parent, kid;
	int fd, tries;

	(void)snprintf(folder, sizeof(folder), "/tmp/vmbus-rec-XXXXXX");
	must(mkdtemp(folder) != NULL);
	host_init(&host);
	fflush(NULL);
	parent = fork();
	if (parent == 0)
		parent_that_dies(host.path, folder);
	kid = kid_start(&host, KID_OPENS);
	(void)snprintf(path, sizeof(path), "%s/guest-%d.vmbusrec", folder, (int)kid);
	for (tries = 0; tries < 2000; tries++) {
		memset(&told, 0, sizeof(told));
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0 && read(fd, bytes, sizeof(bytes)) == sizeof(bytes))
			(void)vmbus_record_read(bytes, sizeof(bytes), &info, count_event, &told);
		close(fd);
		if (told.events >= 15)
			break;
		usleep(5000);
	}
	must(told.events >= 15);
	kill(parent, SIGKILL);
	must_eq(waitpid(parent, NULL, 0), parent);
	must_eq(waitpid(kid, NULL, 0), kid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	must(fd >= 0);
	must_eq(read(fd, bytes, sizeof(bytes)), (ssize_t)sizeof(bytes));
	close(fd);
	memset(&told, 0, sizeof(told));
	must_eq(vmbus_record_read(bytes, sizeof(bytes), &info, count_event, &told), 0);
	must_eq(info.pid, (uint32_t)parent);
	must(told.events >= 15);
	unlink(host.path);
	remove_folder();
}
END_TEST

START_TEST(vmbusctl_record__of_a_socket_and_errors)
{
	static struct runner r;
	const struct out *out;
	struct host host;
	pid_t pid;

	NEED_TOOL();
	host_init(&host);
	host.channels = 1;
	host.opts.record_bytes = 8192;
	host_listen(&host);
	out = ctl(&host, "record -s %s");
	must_eq(out->status, 0);
	must(strstr(out->text, "no child is attached") != NULL);
	pid = kid_start(&host, KID_OPENS);
	host_until(&host, host.attached == 1);
	serve_for(&host, SECOND_NS / 5);
	out = ctl(&host, "record -s %s -c guest");
	must_eq(out->status, 0);
	must(strncmp(out->text, "record of guest, written by process ", 36) == 0);
	must(strstr(out->text, "channel 1: message to the child: offer, VP 0") != NULL);
	must(strstr(out->text, "channel 1: opened") != NULL);
	out = ctl(&host, "record -s %s --json");
	must_eq(out->status, 0);
	must(strstr(out->text, "\"complete\": true") != NULL);
	kid_kill(&host, pid);
	host_close(&host);
	(void)snprintf(r.command, sizeof(r.command), "%s record /etc/hostname 2>&1", tool());
	(void)run_thread(&r);
	must_eq(r.out.status, 1);
	must(strstr(r.out.text, "no flight record") != NULL);
	(void)snprintf(r.command, sizeof(r.command), "%s record /tmp 2>&1", tool());
	(void)run_thread(&r);
	must_eq(r.out.status, 1);
	(void)snprintf(r.command, sizeof(r.command), "%s record /tmp/none.vmbusrec 2>&1", tool());
	(void)run_thread(&r);
	must_eq(r.out.status, 1);
	must(strstr(r.out.text, "No such file") != NULL);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "query", 60);

	(void)opts_of;
	(void)why;
	tcase_add_test(tc, shm_diag__tells_buses_and_channels);
	tcase_add_test(tc, shm_diag__steps_of_an_open_channel);
	tcase_add_test(tc, shm_diag__errors);
	tcase_add_test(tc, shm_listen__refuses_record_options);
	tcase_add_test(tc, shm_records__of_children_with_and_without);
	tcase_add_loop_test(tc, shm_diag__hostile_parent, 0, LIES);
	tcase_add_test(tc, dg_decode__round_trip_and_noise);
	tcase_add_test(tc, dg_encode__every_member);
	tcase_add_test(tc, shm_listen__record_of_a_child_that_died_stays);
	tcase_add_test(tc, shm_listen__record_of_a_child_that_left_goes);
	tcase_add_test(tc, shm_listen__records_are_bounded);
	tcase_add_test(tc, shm_listen__no_room_for_a_record);
	tcase_add_test(tc, shm_listen__record_survives_the_parent);
	tcase_add_test(tc, vmbusctl_record__of_a_socket_and_errors);
}

VMBUS_TEST_MAIN("diag.query", tests)
