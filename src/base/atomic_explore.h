/* SPDX-License-Identifier: MIT */
/*
 * The second body of atomic.h: each access goes to the interleaving test in tests/explore, with the
 * place in the source that makes it.  Never part of a library that is shipped.
 *
 * Every place registers itself in a linker section, so the test knows them all, also those that no
 * run comes to, and can weaken each.  Bytes of the window are not atomic: the test looks for races
 * on them.
 */
#ifndef VMBUS_BASE_ATOMIC_EXPLORE_H
#define VMBUS_BASE_ATOMIC_EXPLORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
	uint32_t v;
} vmbus__a32;
typedef struct {
	uint64_t v;
} vmbus__a64;

#define VMBUS__HOOK(p) ((void)0)

enum vmbus__explore_op {
	VMBUS__EX_LOAD,
	VMBUS__EX_STORE,
	VMBUS__EX_CAS,
	VMBUS__EX_ADD,
	VMBUS__EX_OR,
	VMBUS__EX_XCHG,
	VMBUS__EX_FENCE_ACQUIRE,
	VMBUS__EX_FENCE_FULL
};

/* A place in the source. */
struct vmbus__site {
	const char *file;
	const char *func;
	const char *name; /* of the function of atomic.h, without its prefix */
	uint32_t line;
	uint8_t op; /* enum vmbus__explore_op */
	uint8_t bytes;
	bool acquire, release;
	uint32_t number; /* the test's */
};

/* Make an access; a and b are its values (store: a; compare-and-swap: old and new). */
uint64_t vmbus__explore(const struct vmbus__site *site, const void *p, uint64_t a, uint64_t b);
void vmbus__explore_read(const uint8_t *from, size_t len);
void vmbus__explore_write(const uint8_t *to, size_t len);

#define VMBUS__SITE(name_, op_, bytes_, acquire_, release_)                                        \
	__extension__({                                                                            \
		static struct vmbus__site site_ = { __FILE__, __func__, name_,	  __LINE__, op_,   \
						    bytes_,   acquire_, release_, 0 };             \
		static struct vmbus__site *entry_ __attribute__((section("vmbus_sites"), used)) =  \
			&site_;                                                                    \
		(void)entry_;                                                                      \
		&site_;                                                                            \
	})

#define vmbus__ld32_relaxed(p)                                                                     \
	((uint32_t)vmbus__explore(VMBUS__SITE("ld32_relaxed", VMBUS__EX_LOAD, 4, false, false),    \
				  (p), 0, 0))
#define vmbus__ld32_acquire(p)                                                                     \
	((uint32_t)vmbus__explore(VMBUS__SITE("ld32_acquire", VMBUS__EX_LOAD, 4, true, false),     \
				  (p), 0, 0))
#define vmbus__ld64_relaxed(p)                                                                     \
	vmbus__explore(VMBUS__SITE("ld64_relaxed", VMBUS__EX_LOAD, 8, false, false), (p), 0, 0)
#define vmbus__ld64_acquire(p)                                                                     \
	vmbus__explore(VMBUS__SITE("ld64_acquire", VMBUS__EX_LOAD, 8, true, false), (p), 0, 0)
#define vmbus__st32_relaxed(p, v)                                                                  \
	((void)vmbus__explore(VMBUS__SITE("st32_relaxed", VMBUS__EX_STORE, 4, false, false), (p),  \
			      (v), 0))
#define vmbus__st32_release(p, v)                                                                  \
	((void)vmbus__explore(VMBUS__SITE("st32_release", VMBUS__EX_STORE, 4, false, true), (p),   \
			      (v), 0))
#define vmbus__st64_relaxed(p, v)                                                                  \
	((void)vmbus__explore(VMBUS__SITE("st64_relaxed", VMBUS__EX_STORE, 8, false, false), (p),  \
			      (v), 0))
#define vmbus__st64_release(p, v)                                                                  \
	((void)vmbus__explore(VMBUS__SITE("st64_release", VMBUS__EX_STORE, 8, false, true), (p),   \
			      (v), 0))
#define vmbus__cas32_acquire(p, old, v)                                                            \
	(vmbus__explore(VMBUS__SITE("cas32_acquire", VMBUS__EX_CAS, 4, true, false), (p), (old),   \
			(v)) != 0)
#define vmbus__cas64_acq_rel(p, old, v)                                                            \
	(vmbus__explore(VMBUS__SITE("cas64_acq_rel", VMBUS__EX_CAS, 8, true, true), (p), (old),    \
			(v)) != 0)
#define vmbus__add64_relaxed(p, v)                                                                 \
	((void)vmbus__explore(VMBUS__SITE("add64_relaxed", VMBUS__EX_ADD, 8, false, false), (p),   \
			      (v), 0))
#define vmbus__add64_release(p, v)                                                                 \
	((void)vmbus__explore(VMBUS__SITE("add64_release", VMBUS__EX_ADD, 8, false, true), (p),    \
			      (v), 0))
#define vmbus__cas32_release(p, old, v)                                                            \
	(vmbus__explore(VMBUS__SITE("cas32_release", VMBUS__EX_CAS, 4, false, true), (p), (old),   \
			(v)) != 0)
#define vmbus__or32_relaxed(p, v)                                                                  \
	((void)vmbus__explore(VMBUS__SITE("or32_relaxed", VMBUS__EX_OR, 4, false, false), (p),     \
			      (v), 0))
#define vmbus__or64_release(p, v)                                                                  \
	vmbus__explore(VMBUS__SITE("or64_release", VMBUS__EX_OR, 8, false, true), (p), (v), 0)
#define vmbus__xchg64_acquire(p, v)                                                                \
	vmbus__explore(VMBUS__SITE("xchg64_acquire", VMBUS__EX_XCHG, 8, true, false), (p), (v), 0)
#define vmbus__fence_acquire()                                                                     \
	((void)vmbus__explore(                                                                     \
		VMBUS__SITE("fence_acquire", VMBUS__EX_FENCE_ACQUIRE, 0, true, false), NULL, 0,    \
		0))
#define vmbus__fence_full()                                                                        \
	((void)vmbus__explore(VMBUS__SITE("fence_full", VMBUS__EX_FENCE_FULL, 0, true, true),      \
			      NULL, 0, 0))

static inline void vmbus__peer_read(void *to, const uint8_t *from, size_t len)
{
	vmbus__explore_read(from, len);
	__builtin_memcpy(to, from, len);
}

static inline void vmbus__peer_write(uint8_t *to, const void *from, size_t len)
{
	vmbus__explore_write(to, len);
	__builtin_memcpy(to, from, len);
}

static inline void vmbus__peer_st64(uint8_t *to, uint64_t v)
{
	vmbus__peer_write(to, &v, sizeof(v));
}

static inline uint64_t vmbus__peer_ld64(const uint8_t *from)
{
	uint64_t v;

	vmbus__peer_read(&v, from, sizeof(v));
	return v;
}

#endif
