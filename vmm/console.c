/* SPDX-License-Identifier: MIT */
/*
 * The terminal: keys go to the guest one by one, ctrl-C stays a signal to us; what was set is put
 * back whatever happens.  Output never makes the main thread wait.
 */
#include "vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#define ROUNDS 16u /* of pending_out, before others have their turn */

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
 * else's.  A file keeps its one, which has its offset, and never makes anybody wait; a socket is
 * told with each message; and where no description of our own is to be had, poll is asked first.
 */
static int own_output(struct vmm *vmm)
{
	struct stat st;
	int fd = -1;

	vmm->out_kind = VMM_OUT_OURS;
	if (fstat(STDOUT_FILENO, &st))
		return -1;
	if (S_ISFIFO(st.st_mode) || isatty(STDOUT_FILENO)) {
		fd = open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
		vmm->out_kind = fd < 0 ? VMM_OUT_SHARED : VMM_OUT_OURS;
	} else if (S_ISSOCK(st.st_mode)) {
		vmm->out_kind = VMM_OUT_SOCKET;
	}
	return fd < 0 ? dup(STDOUT_FILENO) : fd;
}

int vmm_console_open(struct vmm *vmm)
{
	vmm->out_fd = own_output(vmm);
	vmm->stdin_open = fcntl(STDIN_FILENO, F_GETFD) >= 0;
	vmm->serial_fd = -1;
	if (!vmm->opts.serial)
		return 0;
	vmm->serial_fd = open(vmm->opts.serial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (vmm->serial_fd < 0 || fcntl(vmm->serial_fd, F_SETFL, O_WRONLY | O_NONBLOCK))
		return vmm_errno("--serial %s", vmm->opts.serial);
	return 0;
}

static void stop_file(struct vmm *vmm)
{
	vmm_errno("--serial %s: no more is written there", vmm->opts.serial);
	close(vmm->serial_fd);
	vmm->serial_fd = -1;
}

/* What a pipe or a terminal does not take now is left out. */
static void to_file(struct vmm *vmm)
{
	uint32_t at = 0;
	ssize_t n;

	while (vmm->serial_fd >= 0 && at < vmm->pending) {
		n = write(vmm->serial_fd, vmm->pending_out + at, vmm->pending - at);
		if (n == 0 || (n < 0 && errno == EAGAIN))
			return;
		if (n < 0 && errno != EINTR)
			stop_file(vmm);
		at += n > 0 ? (uint32_t)n : 0;
	}
}

/* What goes without waiting, as write() tells it. */
static ssize_t put_out(const struct vmm *vmm)
{
	const uint8_t *const bytes = vmm->pending_out + vmm->pending_at;
	const size_t count = vmm->pending - vmm->pending_at;
	struct pollfd p = { .fd = vmm->out_fd, .events = POLLOUT };

	switch (vmm->out_kind) {
	case VMM_OUT_OURS:
		return write(vmm->out_fd, bytes, count);
	case VMM_OUT_SOCKET:
		return send(vmm->out_fd, bytes, count, MSG_DONTWAIT | MSG_NOSIGNAL);
	default: /* what poll says holds for PIPE_BUF bytes, and pending_out has no more */
		if (poll(&p, 1, 0) == 1)
			return write(vmm->out_fd, bytes, count);
		errno = EAGAIN;
		return -1;
	}
}

/* Returns false when the terminal takes no more now. */
static bool to_terminal(struct vmm *vmm)
{
	ssize_t n;

	while (vmm->out_fd >= 0 && vmm->pending_at < vmm->pending) {
		n = put_out(vmm);
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

/*
 * A guest may write as fast as this reads: after some rounds others have their turn, and we ask
 * ourselves to come back.
 */
void vmm_console_flush(struct vmm *vmm)
{
	uint32_t round;

	for (round = 0; round < ROUNDS; round++) {
		if (!to_terminal(vmm))
			return; /* poll tells when it takes more */
		vmm->pending = vmm_serial_output(&vmm->platform.serial, vmm->pending_out,
						 sizeof(vmm->pending_out));
		if (vmm->pending == 0)
			return;
		to_file(vmm);
	}
	vmm_ask(vmm, VMM_ASK_OUTPUT);
}

void vmm_console_drain(struct vmm *vmm)
{
	const uint64_t until = vmm_now_ns() + 2000000000u;

	vmm_console_flush(vmm);
	while ((vmm->pending || vmm_serial_waiting(&vmm->platform.serial)) &&
	       vmm_now_ns() < until) {
		struct pollfd p = { .fd = vmm->out_fd, .events = POLLOUT };

		if (vmm->pending)
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
