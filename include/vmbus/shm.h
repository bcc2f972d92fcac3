/* SPDX-License-Identifier: MIT */
/*
 * Ring memory for plain processes: a sealed memfd that both sides map, with the data pages twice
 * where a mirrored window is wanted.
 *
 * Concepts: vmbus_ring(7).  Hosted: needs Linux and libnuma, is in vmbus::vmbus and not in the core.
 */
#ifndef VMBUS_SHM_H
#define VMBUS_SHM_H

#include <vmbus/ring.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A mapping of ring memory.  Set up by vmbus_shm_ring_map(). */
struct vmbus_shm_ring {
	struct vmbus_ring_mem mem; /* give this to the ends */
	void *map_p;
	size_t map_bytes_p;
	void **pages_p;
	uint64_t reserved_p[4];
};

/* Options of vmbus_shm_ring_map(); zero what you do not need. */
struct vmbus_shm_ring_opts {
	size_t struct_bytes; /* sizeof(struct vmbus_shm_ring_opts) */
	enum vmbus_ring_window window;
	uint32_t size;	 /* data bytes of the ring */
	uint64_t offset; /* of its control page in the memfd, a multiple of the host's page */
	bool on_node;	 /* place the pages on a NUMA node */
	uint32_t node;
};

/*
 * Bytes of memfd that one ring takes: the control page and size data bytes.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API uint64_t vmbus_shm_ring_bytes(uint32_t size);

/*
 * Create a memfd of zeroes for rings, sealed so that nobody can change its size.
 *
 * bytes  1 to 2^40; rounded up to whole pages of the host.
 *
 * Returns a descriptor, close-on-exec; the caller closes it.
 * Errors: RANGE   bytes is out of bounds
 *	   NOMEM, PERM, SYSTEM	the system call failed; errno tells why
 * Effect: none but the descriptor.
 * Threads: any.
 */
VMBUS_API int vmbus_shm_create(uint64_t bytes);

/*
 * Map one ring.
 *
 * ring	  caller's storage.
 * fd	  a memfd sealed against shrinking, of one's own or received; not kept.
 * opts	  window, size, place and node.
 *
 * Errors: INVAL   opts was not set up, the offset is no multiple of the host's page, or fd is no
 *		   memfd sealed against shrinking, or one of huge pages, which can be hole-punched
 *	   RANGE   size is wrong, or the ring reaches past the end of the memfd
 *	   NOTSUP  no such NUMA node, or no NUMA here
 *	   NOMEM, PERM, SYSTEM	a system call failed; errno tells why
 * Effect: address space; the memory itself is not touched.
 * Threads: any.
 */
VMBUS_API int vmbus_shm_ring_map(struct vmbus_shm_ring *ring, int fd,
				 const struct vmbus_shm_ring_opts *opts);

/*
 * Undo vmbus_shm_ring_map().  Both ends of this process must be done with the ring.
 *
 * Effect: the memory is gone from the address space.
 * Threads: any.
 */
VMBUS_API void vmbus_shm_ring_unmap(struct vmbus_shm_ring *ring);

/*
 * The errno that says the same as a return value of ours, for code that speaks errno; 0 for a
 * value that is no error.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API int vmbus_err_to_errno(int err);

#ifdef __cplusplus
}
#endif
#endif
