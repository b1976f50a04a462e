// SPDX-License-Identifier: GPL-2.0-only
/*
 * The `kernel` crate's helpers (rust/helpers of the kernel's source) for a kernel that may be older
 * than they are. What it lacks is made up for here; each case is found by looking for the thing
 * itself, never by the kernel's version.
 */
#include <linux/lockdep.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/timer.h>
#include <linux/vmalloc.h>

#ifdef __BINDGEN__
/* bindgen leaves inline functions out. */
#define __rust_helper
#else
#define __rust_helper __always_inline
#endif

/*
 * Memory of a node and an alignment. The crate asks for no more than what the size gives anyway:
 * kmalloc aligns to the largest power of two that divides the size, vmalloc to pages.
 */
#ifndef krealloc_node_align
#define krealloc_node_align(p, size, align, flags, node) krealloc(p, size, flags)
#endif
#ifndef kvrealloc_node_align
#define kvrealloc_node_align(p, size, align, flags, node) kvrealloc(p, size, flags)
#endif
#ifndef vrealloc_node_align
/* Older kernels export nothing that makes such memory grow: srb's never does. */
static inline void *srb_vrealloc(const void *p, size_t size, gfp_t flags)
{
	if (!p)
		return size ? __vmalloc(size, flags) : NULL;
	if (!size)
		vfree(p);
	return NULL;
}
#define vrealloc_node_align(p, size, align, flags, node) srb_vrealloc(p, size, flags)
#endif

/* By the macro that all kernels have; only lockdep would look at name and key. */
__rust_helper void rust_helper_timer_init_key(struct timer_list *timer,
					      void (*func)(struct timer_list *),
					      unsigned int flags, const char *name,
					      struct lock_class_key *key)
{
	timer_setup(timer, func, flags);
}

#include "atomic.c"
#include "atomic_ext.c"
#include "barrier.c"
#include "bitops.c"
#include "bug.c"
#include "build_bug.c"
#include "cred.c"
#include "err.c"
#include "fs.c"
#include "mm.c"
#include "mutex.c"
#include "page.c"
#include "processor.c"
#include "refcount.c"
#include "signal.c"
#include "slab.c"
#include "spinlock.c"
#include "string.c"
#include "sync.c"
#include "task.c"
#include "time.c"
#include "uaccess.c"
#include "vmalloc.c"
#include "wait.c"
#include "workqueue.c"
