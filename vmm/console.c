/* SPDX-License-Identifier: MIT */
/*
 * The terminal: keys go to the guest one by one, ctrl-C stays a signal to us; what was set is put
 * back whatever happens.  Output never makes the main thread wait.
 */
#include "vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

static struct termios before;
static bool is_raw;

void vmm_console_raw(void)
{
	struct termios t;

	/* In the background one must not touch the terminal. */
	if (!isatty(STDIN_FILENO) || tcgetpgrp(STDIN_FILENO) != getpgrp() ||
	    tcgetattr(STDIN_FILENO, &before))
		return;
	t = before;
	t.c_iflag &= ~(tcflag_t)(ICRNL | IXON);
	t.c_lflag &= ~(tcflag_t)(ICANON | ECHO | IEXTEN);
	t.c_cc[VQUIT] = _POSIX_VDISABLE;
	t.c_cc[VSUSP] = _POSIX_VDISABLE;
	t.c_cc[VMIN] = 1;
	t.c_cc[VTIME] = 0;
	is_raw = true;
	tcsetattr(STDIN_FILENO, TCSANOW, &t);
}

void vmm_console_restore(void)
{
	if (is_raw)
		tcsetattr(STDIN_FILENO, TCSANOW, &before);
	is_raw = false;
}

/*
 * Terminals and pipes get a description of our own, so that not to wait is our choice and nobody
 * else's.  A file keeps its one, which has its offset, and never makes anybody wait.
 */
static int own_output(void)
{
	struct stat st;
	int fd = -1;

	if (fstat(STDOUT_FILENO, &st))
		return -1;
	if (S_ISFIFO(st.st_mode) || isatty(STDOUT_FILENO))
		fd = open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	return fd < 0 ? dup(STDOUT_FILENO) : fd;
}

int vmm_console_open(struct vmm *vmm)
{
	vmm->out_fd = own_output();
	vmm->stdin_open = fcntl(STDIN_FILENO, F_GETFD) >= 0;
	vmm->serial_fd = -1;
	if (!vmm->opts.serial)
		return 0;
	vmm->serial_fd = open(vmm->opts.serial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (vmm->serial_fd < 0)
		return vmm_errno("--serial %s", vmm->opts.serial);
	return 0;
}

static void to_file(struct vmm *vmm)
{
	if (vmm->serial_fd < 0 ||
	    write(vmm->serial_fd, vmm->pending_out, vmm->pending) == (ssize_t)vmm->pending)
		return;
	vmm_errno("--serial %s: no more is written there", vmm->opts.serial);
	close(vmm->serial_fd);
	vmm->serial_fd = -1;
}

/* Returns false when the terminal takes no more now. */
static bool to_terminal(struct vmm *vmm)
{
	ssize_t n;

	while (vmm->out_fd >= 0 && vmm->pending_at < vmm->pending) {
		n = write(vmm->out_fd, vmm->pending_out + vmm->pending_at,
			  vmm->pending - vmm->pending_at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return false;
		if (n < 0) { /* nobody reads it any more */
			close(vmm->out_fd);
			vmm->out_fd = -1;
			break;
		}
		vmm->pending_at += (uint32_t)n;
	}
	vmm->pending_at = vmm->pending = 0;
	return true;
}

void vmm_console_flush(struct vmm *vmm)
{
	while (to_terminal(vmm)) {
		vmm->pending = vmm_serial_output(&vmm->platform.serial, vmm->pending_out,
						 sizeof(vmm->pending_out));
		if (vmm->pending == 0)
			return;
		to_file(vmm);
	}
}

void vmm_console_drain(struct vmm *vmm)
{
	const uint64_t until = vmm_now_ns() + 2000000000u;

	vmm_console_flush(vmm);
	while (vmm->pending && vmm_now_ns() < until) {
		struct pollfd p = { .fd = vmm->out_fd, .events = POLLOUT };

		poll(&p, 1, 100);
		vmm_console_flush(vmm);
	}
}

void vmm_console_read(struct vmm *vmm)
{
	uint8_t keys[VMM_SERIAL_IN];
	const uint32_t room = vmm_serial_room(&vmm->platform.serial);
	ssize_t n;

	if (room == 0)
		return;
	n = read(STDIN_FILENO, keys, room);
	if (n > 0)
		vmm_serial_input(&vmm->platform.serial, keys, (uint32_t)n);
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		vmm->stdin_open = false;
}

void vmm_console_close(struct vmm *vmm)
{
	vmm_console_restore();
	if (vmm->out_fd >= 0)
		close(vmm->out_fd);
	if (vmm->serial_fd >= 0)
		close(vmm->serial_fd);
	vmm->out_fd = vmm->serial_fd = -1;
}
