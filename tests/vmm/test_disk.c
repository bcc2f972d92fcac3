/* SPDX-License-Identifier: MIT */
/* Disks of vmbus-vmm: the words, the commands, and that a sandboxed one can open what comes later. */
#define _GNU_SOURCE
#include "vmm_guest.h"

static struct disk_spec spec;
static char why[800];

START_TEST(disk_parse__takes_all_words)
{
	ck_assert_int_eq(disk_parse(&spec,
				    "file=/a/b.img,ro,sector=4096,lun=7,target=1,serial=S-1,direct,"
				    "thick,write-through,faulty=drop,queues=4,spin=20",
				    why, sizeof(why)),
			 0);
	ck_assert_int_eq(spec.kind, DISK_FILE);
	ck_assert_str_eq(spec.source, "/a/b.img");
	ck_assert_uint_eq(spec.sector, 4096);
	ck_assert_int_eq(spec.lun, 7);
	ck_assert_uint_eq(spec.target, 1);
	ck_assert_str_eq(spec.serial, "S-1");
	ck_assert(spec.read_only && spec.direct && spec.thick && spec.write_through);
	ck_assert(spec.faulty && spec.drop);
	ck_assert_uint_eq(spec.queues, 4);
	ck_assert_uint_eq(spec.spin_us, 20);
	ck_assert_int_eq(disk_parse(&spec, "mem=3K", why, sizeof(why)), 0);
	ck_assert_uint_eq(spec.bytes, 3072);
	ck_assert_int_eq(spec.lun, DISK_LUN_NEXT);
	ck_assert_uint_eq(spec.queues, 1);
	ck_assert_int_eq(disk_parse(&spec, "null=2T", why, sizeof(why)), 0);
	ck_assert_uint_eq(spec.bytes, UINT64_C(2) << 40);
	ck_assert_int_eq(disk_parse(&spec, "none,queues=2", why, sizeof(why)), 0);
	ck_assert_int_eq(disk_parse(&spec, "nbd=nbd://localhost/x", why, sizeof(why)), 0);
	ck_assert_str_eq(spec.source, "nbd://localhost/x");
}
END_TEST

static const struct {
	const char *text, *said;
} wrong_words[] = {
	{ "", "a disk begins with file=PATH" },
	{ "disk.img", "disk.img: a disk begins with" },
	{ "file=", "file=: 1 to 511 characters" },
	{ "mem=0", "mem=0: a size is a number" },
	{ "mem=1X", "mem=1X: a size" },
	{ "mem=1MB", "mem=1MB: a size" },
	{ "mem=-1", "mem=-1: a size" },
	{ "mem=9999999T", "mem=9999999T: a size" },
	{ "mem=99999999999999999999", "a size" },
	{ "null=", "null=: a size" },
	{ "mem=1M,frob", "frob: no such word; there are ro" },
	{ "mem=1M,sector=1024", "sector=1024: it is 512 or 4096" },
	{ "mem=1M,lun=256", "lun=256: it is 0 to 255" },
	{ "mem=1M,target=2", "target=2: it is 0 to 1" },
	{ "mem=1M,queues=0", "queues=0: it is 1 to 64" },
	{ "mem=1M,queues=65", "queues=65" },
	{ "mem=1M,spin=10001", "spin=10001" },
	{ "mem=1M,serial=", "serial=: 1 to 32" },
	{ "mem=1M,serial=123456789012345678901234567890123", "1 to 32 printable" },
	{ "mem=1000", "mem=1000: it is not of whole sectors of 512 bytes" },
	{ "null=512,sector=4096", "not of whole sectors of 4096 bytes" },
	{ "mem=1M,id=12", "id=12: it is a GUID" },
	{ "mem=1M,direct", "direct and thick are for file=" },
};

START_TEST(disk_parse__says_what_is_wrong)
{
	ck_assert_int_eq(disk_parse(&spec, wrong_words[_i].text, why, sizeof(why)), -1);
	ck_assert_msg(strstr(why, wrong_words[_i].said) != NULL, "said: %s", why);
}
END_TEST

static struct vmbus_guid id_of(const char *text, const char *scope, const char *name, uint8_t lun)
{
	ck_assert_int_eq(disk_parse(&spec, text, why, sizeof(why)), 0);
	disk_identify(&spec, scope, name);
	return disk_id_at(&spec, lun);
}

static bool is_none(struct vmbus_guid id)
{
	const struct vmbus_guid none = { { 0 } };

	return vmbus_guid_equal(&id, &none);
}

/* Each of these is another disk. */
START_TEST(disk_identify__goes_by_what_names_a_disk)
{
	struct vmbus_guid id[10], again;
	size_t i, k;

	for (i = 0; i < 2; i++) {
		const uint8_t lun = i ? 200 : 0; /* of no matter where something else names it */

		id[0] = id_of("file=/etc/passwd", NULL, NULL, lun);
		id[1] = id_of("file=/etc/group", "/tmp", "a", lun);
		id[2] = id_of("nbd=nbd://localhost/x", "/tmp", "a", lun);
		id[3] = id_of("nbd=nbd://localhost/y", NULL, NULL, lun);
	}
	id[4] = id_of("mem=1M", "/tmp", "a", 0);
	id[5] = id_of("mem=1M", "/tmp", "a", 1);
	id[6] = id_of("mem=1M,target=1", "/tmp", "a", 0);
	id[7] = id_of("mem=1M", "/tmp", "b", 0);
	id[8] = id_of("mem=1M", "/usr", "a", 0);
	id[9] = id_of("null=1M,id=00112233-4455-6677-8899-aabbccddeeff", "/tmp", "a", 0);
	for (i = 0; i < 10; i++)
		for (k = 0; k < i; k++)
			ck_assert_msg(!vmbus_guid_equal(&id[i], &id[k]), "%zu and %zu", i, k);
	again = id_of("file=/usr/../etc/./passwd,ro", "/usr", "c", 7);
	ck_assert(vmbus_guid_equal(&again, &id[0]));
	again = id_of("mem=1M", "/usr/../tmp", "a", 1);
	ck_assert(vmbus_guid_equal(&again, &id[5]));
	ck_assert(is_none(id_of("mem=1M", NULL, NULL, 0)));
	ck_assert(is_none(id_of("mem=1M,serial=S", "/tmp", "a", 0)));
	ck_assert(is_none(id_of("none", "/tmp", "a", 0)));
}
END_TEST

START_TEST(disk_address__is_a_lun_or_two_numbers)
{
	uint8_t target = 9, lun = 9;

	ck_assert_int_eq(disk_address("255", &target, &lun), 0);
	ck_assert(target == 0 && lun == 255);
	ck_assert_int_eq(disk_address("1:2", &target, &lun), 0);
	ck_assert(target == 1 && lun == 2);
	ck_assert_int_eq(disk_address("2:0", &target, &lun), -1);
	ck_assert_int_eq(disk_address("256", &target, &lun), -1);
	ck_assert_int_eq(disk_address("1:", &target, &lun), -1);
	ck_assert_int_eq(disk_address("x", &target, &lun), -1);
}
END_TEST

START_TEST(disk_faults__takes_words)
{
	struct vmbus_store_faults f;

	ck_assert_int_eq(disk_faults(&f, "medium from=4096 bytes=512 ops=3", why, sizeof(why)), 0);
	ck_assert(f.from == 4096 && f.bytes == 512 && f.ops == 3 && f.end == VMBUS_IO_MEDIUM);
	ck_assert_int_eq(disk_faults(&f, "gone", why, sizeof(why)), 0);
	ck_assert(f.bytes == VMBUS_STORE_BYTES_MAX && f.ops == 15 && f.end == VMBUS_IO_GONE);
	ck_assert_int_eq(disk_faults(&f, "stall drop", why, sizeof(why)), 0);
	ck_assert(f.stall && f.drop && !f.cut && f.bytes == 0);
	ck_assert_int_eq(disk_faults(&f, "cut", why, sizeof(why)), 0);
	ck_assert(f.cut && f.drop);
	ck_assert_int_eq(disk_faults(&f, "none", why, sizeof(why)), 0);
	ck_assert(f.bytes == 0 && !f.stall && !f.drop);
	ck_assert_int_eq(disk_faults(&f, "", why, sizeof(why)), -1);
	ck_assert_int_eq(disk_faults(&f, "medium ops=16", why, sizeof(why)), -1);
	ck_assert_int_eq(disk_faults(&f, "frob", why, sizeof(why)), -1);
	ck_assert_ptr_nonnull(strstr(why, "frob: there are none, medium"));
}
END_TEST

static const char *image(uint64_t bytes)
{
	static char path[64];

	(void)snprintf(path, sizeof(path), "/tmp/vmm-test-%d-image", (int)getpid());
	ck_assert_int_eq(
		shell("rm -f %s; truncate -s %llu %s", path, (unsigned long long)bytes, path), 0);
	return path;
}

START_TEST(vmm_disk__commands)
{
	NEEDS_KVM();
	start("--disk mem=8M --disk null=1T,lun=9,sector=4096,faulty,queues=4");
	ck_assert_int_eq(send_line("status"), 0);
	ck_output("disk 0:0 bytes=8388608 reads=0");
	ck_output("disk 0:9 bytes=1099511627776");
	ck_assert_int_eq(send_line("disk add mem=1M"), 0);
	ck_output("ok lun=0:1");
	ck_assert_int_eq(send_line("disk add mem=1M,target=1,lun=3"), 0);
	ck_output("ok lun=1:3");
	ck_assert_int_eq(send_line("disk add mem=1M,lun=9"), 1);
	ck_output("error there is a disk at target 0, LUN 9");
	ck_assert_int_eq(send_line("disk add frob"), 1);
	ck_output("a disk begins with file=");
	ck_assert_int_eq(send_line("disk add none"), 1);
	ck_output("error none is no disk");
	ck_assert_int_eq(send_line("disk resize 9"), 0);
	ck_assert_int_eq(send_line("disk resize 8"), 1);
	ck_output("error there is no such disk");
	ck_assert_int_eq(send_line("disk fault 9 medium from=0 bytes=512 ops=1"), 0);
	ck_assert_int_eq(send_line("disk fault 9 none"), 0);
	ck_assert_int_eq(send_line("disk fault 0 stall"), 1);
	ck_output("error it was not added with the word faulty");
	ck_assert_int_eq(send_line("disk fault 9 frob"), 1);
	ck_assert_int_eq(send_line("disk fault 9"), 1);
	ck_assert_int_eq(send_line("disk fault 77 none"), 1);
	ck_output("error there is no such disk");
	ck_assert_int_eq(send_line("disk remove 1:3"), 0);
	ck_assert_int_eq(send_line("disk remove 1:3"), 1);
	ck_assert_int_eq(send_line("disk frob 0"), 1);
	ck_output("error frob: disk has add, remove");
	ck_assert_int_eq(send_line("disk"), 1);
	ck_assert_int_eq(send_line("disk x"), 1);
	ck_assert_int_eq(send_line("reset"), 0);
	ck_assert_int_eq(send_line("status"), 0);
	ck_output("disk 0:1 bytes=1048576");
	ck_no_output("disk 1:3");
	ck_assert_int_eq(send_line("quit"), 0);
	ck_assert_int_eq(wait_for_end(), VMM_KILLED);
}
END_TEST

/* The sandbox has no file system: the file comes from who sends the command, locked by them. */
START_TEST(vmm_disk__files_come_later)
{
	const char *path;

	NEEDS_KVM();
#ifndef VMBUS_HAVE_URING
	VMBUS_TEST_SKIP("built without liburing");
#endif
	path = image(1 << 20);
	start("--disk none");
	ck_assert_int_eq(shell("python3 -c 'import socket\n"
			       "s=socket.socket(socket.AF_UNIX); s.connect(\"%s\")\n"
			       "s.send(b\"disk add file=%s\\n\"); s.shutdown(1)\n"
			       "print(s.recv(1000).decode())' 2>&1",
			       control, path),
			 0);
	ck_output("error a file comes opened: send it by vmbus-vmm --send");
	ck_assert_int_eq(send_line("status"), 0);
	ck_no_output("disk 0:0");
	ck_assert_int_eq(shell("%s --send %s 'disk add file=%s' 2>&1", vmm(), control, path), 0);
	ck_output("ok lun=0:0");
	ck_assert_int_eq(shell("%s --send %s 'disk add file=%s' 2>&1", vmm(), control, path), 1);
	ck_output("another process has it open");
	ck_assert_int_eq(shell("%s --send %s 'disk add file=%s.not' 2>&1", vmm(), control, path),
			 1);
	ck_output("No such file");
	ck_assert_int_eq(shell("%s --send %s 'disk add file=/dev' 2>&1", vmm(), control), 1);
	ck_assert_int_eq(shell("truncate -s 2M %s", path), 0);
	ck_assert_int_eq(send_line("disk resize 0"), 0);
	ck_assert_int_eq(send_line("status"), 0);
	ck_output("disk 0:0 bytes=2097152");
	ck_assert_int_eq(shell("truncate -s 100 %s", path), 0);
	ck_assert_int_eq(send_line("disk resize 0"), 1);
	ck_output("what is left of it is no whole sector");
	ck_assert_int_eq(send_line("disk resize 7"), 1);
	ck_output("there is no such disk");
	ck_assert_int_eq(shell("truncate -s 2M %s", path), 0);
	ck_assert_int_eq(send_line("disk resize 0"), 0);
	ck_assert_int_eq(send_line("disk remove 0"), 0);
	ck_assert_int_eq(shell("%s --send %s 'disk add file=%s,ro' 2>&1", vmm(), control, path), 0);
	ck_assert_int_eq(send_line("quit"), 0);
	ck_assert_int_eq(wait_for_end(), VMM_KILLED);
	unlink(path);
}
END_TEST

START_TEST(vmm_disk__says_what_is_wrong)
{
	const char *path;
	char line[128];

	NEEDS_KVM();
	path = image(1 << 20);
	ck_assert_int_eq(run(GUEST(powers_off), "--disk mem=1M --disk mem=1M"), VMM_POWEROFF);
	ck_assert_int_eq(run(GUEST(powers_off), "--disk mem=1M,lun=0 --disk mem=1M,lun=0"),
			 VMM_ERROR);
	ck_output("--disk there is a disk at target 0, LUN 0");
	ck_assert_int_eq(run(GUEST(powers_off), "--disk mem=100"), VMM_USAGE);
	ck_output("mem=100: it is not of whole sectors of 512 bytes");
	ck_assert_int_eq(shell("truncate -s 100 %s", path), 0);
	(void)snprintf(line, sizeof(line), "--disk file=%s", path);
	ck_assert_int_eq(run(GUEST(powers_off), line), VMM_ERROR);
	ck_output("is smaller than a sector of 512 bytes");
	ck_assert_int_eq(run(GUEST(powers_off), "--disk file=/nowhere/at.all"), VMM_ERROR);
	ck_output("/nowhere/at.all");
	ck_assert_int_eq(run(GUEST(powers_off), "--disk frob"), VMM_USAGE);
	ck_output("--disk frob: a disk begins with");
	start("");
	ck_assert_int_eq(send_line("disk add mem=1M"), 1);
	ck_output("error there is no controller; --disk none makes one");
	ck_assert_int_eq(send_line("quit"), 0);
	ck_assert_int_eq(wait_for_end(), VMM_KILLED);
	unlink(path);
}
END_TEST

/* The machine of a saved one must have its controller again. */
START_TEST(vmm_disk__is_named_again_at_a_restore)
{
	char folder[64];

	NEEDS_KVM();
	(void)snprintf(folder, sizeof(folder), "/tmp/vmm-test-%d-saved", (int)getpid());
	start("--disk mem=1M,queues=2");
	ck_assert_int_eq(shell("%s --send %s 'save %s' 2>&1", vmm(), control, folder), 0);
	ck_assert_int_eq(wait_for_end(), VMM_SAVED);
	ck_assert_int_eq(shell("%s --restore %s --timeout 5 2>&1 </dev/null", vmm(), folder),
			 VMM_ERROR);
	ck_output("the machine has disks: name them as they were");
	start_with("", folder, "--disk mem=1M,queues=2");
	ck_assert_int_eq(send_line("status"), 0);
	ck_output("disk 0:0 bytes=1048576");
	ck_assert_int_eq(send_line("quit"), 0);
	ck_assert_int_eq(wait_for_end(), VMM_KILLED);
	shell("rm -rf %s", folder);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "disk", 60);

	tcase_add_test(tc, disk_parse__takes_all_words);
	tcase_add_loop_test(tc, disk_parse__says_what_is_wrong, 0,
			    (int)(sizeof(wrong_words) / sizeof(wrong_words[0])));
	tcase_add_test(tc, disk_identify__goes_by_what_names_a_disk);
	tcase_add_test(tc, disk_address__is_a_lun_or_two_numbers);
	tcase_add_test(tc, disk_faults__takes_words);
	tcase_add_test(tc, vmm_disk__commands);
	tcase_add_test(tc, vmm_disk__files_come_later);
	tcase_add_test(tc, vmm_disk__says_what_is_wrong);
	tcase_add_test(tc, vmm_disk__is_named_again_at_a_restore);
}

VMBUS_TEST_MAIN("vmm.disk", tests)
