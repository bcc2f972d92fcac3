/* SPDX-License-Identifier: MIT */
/*
 * Privileges go when everything is open and before a thread exists: name spaces of our own with an
 * empty root and no network (but with --net user), another user, no new privileges.  What this
 * system does not grant is said and left out; the filter of system calls (filter.c) comes on top.
 */
#define _GNU_SOURCE
#include "vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/capability.h>

#define NOBODY 65534u

static int write_file(const char *path, const char *text)
{
	const int fd = open(path, O_WRONLY | O_CLOEXEC);
	const ssize_t bytes = (ssize_t)strlen(text);
	ssize_t n;

	if (fd < 0)
		return -1;
	n = write(fd, text, (size_t)bytes);
	close(fd);
	return n == bytes ? 0 : -1;
}

/* Without root, name spaces need one of users, in which we stay who we are. */
static int user_space(void)
{
	const unsigned int uid = geteuid(), gid = getegid();
	char map[64];

	if (unshare(CLONE_NEWUSER))
		return -1;
	(void)snprintf(map, sizeof(map), "%u %u 1\n", uid, uid);
	if (write_file("/proc/self/setgroups", "deny") || write_file("/proc/self/uid_map", map))
		return -1;
	(void)snprintf(map, sizeof(map), "%u %u 1\n", gid, gid);
	return write_file("/proc/self/gid_map", map);
}

/* The one file that --net user looks at while it runs, in the file system where we are. */
static void take_resolver(void)
{
	char text[4096];
	const int from = open("/etc/resolv.conf", O_RDONLY | O_CLOEXEC);
	const ssize_t n = from >= 0 ? read(from, text, sizeof(text) - 1) : -1;

	if (from >= 0)
		close(from);
	if (n <= 0)
		return;
	text[n] = '\0';
	if (mkdir("etc", 0755) || mknod("etc/resolv.conf", S_IFREG | 0444, 0) ||
	    write_file("etc/resolv.conf", text))
		vmm_tell("sandbox: no /etc/resolv.conf (%s): --net user has no names",
			 strerror(errno));
}

/* An empty file system that nobody can write becomes the root. */
static int empty_root(bool resolver)
{
	static const char *const places[] = { "/tmp", "/proc", "/dev", "/sys", "/mnt" };
	uint32_t i;

	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return -1;
	for (i = 0; i < sizeof(places) / sizeof(places[0]); i++)
		if (mount("vmbus-vmm", places[i], "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
			  "size=4k,mode=0755") == 0)
			break;
	if (i == sizeof(places) / sizeof(places[0]) || chdir(places[i]))
		return -1;
	if (resolver)
		take_resolver();
	if (mount(NULL, ".", NULL, MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
		  "size=4k,mode=0755"))
		return -1;
	/* The root of an initial file system cannot be exchanged; then a smaller step must do. */
	if (syscall(SYS_pivot_root, ".", ".") == 0)
		return umount2(".", MNT_DETACH) || chdir("/") ? -1 : 0;
	return chroot(".") || chdir("/") ? -1 : 0;
}

/* keep_net: the network stays that of this machine. */
static void name_spaces(bool root, bool keep_net)
{
	const int spaces = CLONE_NEWNS | CLONE_NEWIPC | (keep_net ? 0 : CLONE_NEWNET);

	if ((!root && user_space()) || unshare(spaces)) {
		vmm_tell("sandbox: no name spaces here (%s)", strerror(errno));
		return;
	}
	if (empty_root(keep_net))
		vmm_tell("sandbox: no empty root here (%s)", strerror(errno));
}

static unsigned int number_of(const char *variable)
{
	const char *const text = getenv(variable);
	char *end;
	unsigned long n;

	if (!text || !*text)
		return NOBODY;
	n = strtoul(text, &end, 10);
	return *end || n == 0 || n >= UINT32_MAX ? NOBODY : (unsigned int)n;
}

/* Sockets belong to the user that we become. */
static void give(const struct vmm_name *name, const char *path, unsigned int uid, unsigned int gid)
{
	if (path && vmm_name_give(name, path, uid, gid))
		vmm_tell("sandbox: %s stays root's (%s)", path, strerror(errno));
}

static int drop(unsigned int uid, unsigned int gid)
{
	if (setgroups(0, NULL) || setresgid(gid, gid, gid) || setresuid(uid, uid, uid))
		return vmm_errno("sandbox: becoming user %u; --sandbox off runs as root", uid);
	return 0;
}

/* Those of a name space of users: in it we have had all of them since we made it. */
static int no_capabilities(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	const struct __user_cap_data_struct none[2] = { { 0 }, { 0 } };

	return syscall(SYS_capset, &head, none) ? vmm_errno("sandbox: no capabilities") : 0;
}

int vmm_sandbox_enter(struct vmm *vmm)
{
	const bool root = geteuid() == 0;
	const unsigned int uid = number_of("SUDO_UID"), gid = number_of("SUDO_GID");
	uint32_t i;

	if (root) {
		give(&vmm->socket_name, vmm->opts.socket, uid, gid);
		give(&vmm->control_name, vmm->opts.control, uid, gid);
		for (i = 0; i < vmm->opts.provider_count; i++)
			give(&vmm->providers[i].name, vmm->opts.providers[i], uid, gid);
	}
	name_spaces(root, (vmm_nets_roles(vmm) & VMM_ROLE_SOCKETS) != 0);
	if ((root && drop(uid, gid)) || no_capabilities())
		return -1;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return vmm_errno("sandbox: no_new_privs");
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
		return vmm_errno("sandbox: no dumps");
	if (!vmm_filter_there())
		vmm_warn("there is no filter of system calls: this was built without libseccomp");
	return 0;
}
