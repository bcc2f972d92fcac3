/* SPDX-License-Identifier: MIT */
/*
 * Saved states of all versions that there ever were, tests/saved/vN: each goes on as NAME.txt tells.
 * And what is written now has the form of the newest of them.
 *
 * VMBUS_SAVED_WRITE=DIR has the states of now written there, for a new version of the format.
 */
#include "old.h"

#include <dirent.h>

#define NEWEST 1u /* tests/saved/v1 */

static void path_of(char *path, size_t bytes, uint32_t version, const char *name, const char *end)
{
	const char *source = getenv("VMBUS_SOURCE_DIR");

	must((size_t)snprintf(path, bytes, "%s/tests/saved/v%u/%s.%s", source ? source : ".",
			      version, name, end) < bytes);
}

static struct old *load(uint32_t version, const char *name)
{
	char path[512];
	struct old *o;
	FILE *file;

	path_of(path, sizeof(path), version, name, "bin");
	file = fopen(path, "rb");
	if (!file)
		ck_abort_msg("%s: cannot be read", path);
	o = old_read(file);
	fclose(file);
	return o;
}

static void read_text(uint32_t version, const char *name, char *text, size_t bytes)
{
	char path[512];
	size_t n;
	FILE *file;

	path_of(path, sizeof(path), version, name, "txt");
	file = fopen(path, "r");
	if (!file)
		ck_abort_msg("%s: cannot be read", path);
	n = fread(text, 1, bytes - 1, file);
	text[n] = '\0';
	fclose(file);
}

static void check_one(uint32_t version, const char *name)
{
	char text[OLD_TEXT];
	struct old *o;

	vmbus_test_at("tests/saved/v%u/%s", version, name);
	o = load(version, name);
	old_go_on(o);
	read_text(version, name, text, sizeof(text));
	if (strcmp(text, o->text) != 0)
		ck_abort_msg("%s: this came:\n%s", vmbus_test_where, o->text);
	old_free(o);
}

/* Every file there is, for ever. */
START_TEST(vmbus_bus_restore__states_kept_in_the_tree)
{
	uint32_t version, all = 0;

	for (version = 1; version <= NEWEST; version++) {
		char path[512];
		const struct dirent *entry;
		DIR *dir;

		path_of(path, sizeof(path), version, "x", "bin");
		path[strlen(path) - strlen("x.bin")] = '\0';
		dir = opendir(path);
		must(dir != NULL);
		while ((entry = readdir(dir)) != NULL) {
			char name[64];
			const char *dot = strrchr(entry->d_name, '.');

			if (!dot || strcmp(dot, ".bin") != 0)
				continue;
			(void)snprintf(name, sizeof(name), "%.*s", (int)(dot - entry->d_name),
				       entry->d_name);
			check_one(version, name);
			all++;
		}
		closedir(dir);
	}
	must(all >= OLD_SESSIONS);
}
END_TEST

/* The sections of a state, those of the machine in it included. */
static size_t form_of(const uint8_t *state, size_t bytes, char *text, size_t room)
{
	struct vmbus__in in = { state + VMBUS__STATE_HEAD, bytes - VMBUS__STATE_HEAD, false };
	struct vmbus__section s;
	size_t n = 0;

	must(bytes > VMBUS__STATE_HEAD);
	n += (size_t)snprintf(text, room, "kind %u version %u.%u\n", state[8], state[12],
			      state[14]);
	while (vmbus__in_section(&in, &s) == 1) {
		n += (size_t)snprintf(text + n, room - n, "%u v%u flags %u: %zu bytes\n", s.type,
				      s.version, s.flags, s.in.left);
		if (state[8] == VMBUS__STATE_BUS && s.type == 2)
			n += form_of(s.in.at, s.in.left, text + n, room - n);
	}
	must(!in.bad && n < room);
	return n;
}

START_TEST(vmbus_bus_save__form_is_that_of_the_newest)
{
	struct old *now = old_live(&old_sessions[_i]), *kept;
	char a[OLD_TEXT], b[OLD_TEXT];

	vmbus_test_at("%s", old_sessions[_i].name);
	kept = load(NEWEST, old_sessions[_i].name);
	(void)form_of(now->state, now->bytes, a, sizeof(a));
	(void)form_of(kept->state, kept->bytes, b, sizeof(b));
	if (strcmp(a, b) != 0)
		ck_abort_msg("%s: the format is not that of tests/saved/v%u any more.  Give the "
			     "section a new version, read the old one as well, and keep states "
			     "of the new one in tests/saved/v%u, see vmbus_save(7).\nnow:\n%s"
			     "kept:\n%s",
			     old_sessions[_i].name, NEWEST, NEWEST + 1, a, b);
	fake_create(&kept->f);
	old_free(kept);
	old_free(now);
}
END_TEST

/* The same with what is written now, and not by way of a file. */
START_TEST(vmbus_bus_restore__states_of_now)
{
	const struct old_session *session = &old_sessions[_i];
	struct old *now = old_live(session), *again;
	char text[OLD_TEXT];
	FILE *file = tmpfile();

	must(file != NULL);
	vmbus_test_at("%s", session->name);
	old_write(now, file);
	rewind(file);
	again = old_read(file);
	fclose(file);
	old_go_on(again);
	read_text(NEWEST, session->name, text, sizeof(text));
	if (strcmp(text, again->text) != 0)
		ck_abort_msg("%s: this came:\n%s", vmbus_test_where, again->text);
	old_free(again);
	old_free(now);
}
END_TEST

/* For people. */
static int write_all(const char *dir)
{
	size_t i;

	for (i = 0; i < OLD_SESSIONS; i++) {
		struct old *now = old_live(&old_sessions[i]), *again;
		char path[512];
		FILE *file;

		(void)snprintf(path, sizeof(path), "%s/%s.bin", dir, old_sessions[i].name);
		file = fopen(path, "w+b");
		must(file != NULL);
		old_write(now, file);
		rewind(file);
		again = old_read(file);
		fclose(file);
		old_go_on(again);
		(void)snprintf(path, sizeof(path), "%s/%s.txt", dir, old_sessions[i].name);
		file = fopen(path, "w");
		must(file != NULL);
		must(fputs(again->text, file) >= 0);
		fclose(file);
		old_free(again);
		old_free(now);
	}
	return 0;
}

START_TEST(write_states)
{
	must_eq(write_all(getenv("VMBUS_SAVED_WRITE")), 0);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "saved", 20);

	if (getenv("VMBUS_SAVED_WRITE")) {
		tcase_add_test(tc, write_states);
		return;
	}
	tcase_add_test(tc, vmbus_bus_restore__states_kept_in_the_tree);
	tcase_add_loop_test(tc, vmbus_bus_save__form_is_that_of_the_newest, 0, OLD_SESSIONS);
	tcase_add_loop_test(tc, vmbus_bus_restore__states_of_now, 0, OLD_SESSIONS);
}
VMBUS_TEST_MAIN("bus.saved", tests)
