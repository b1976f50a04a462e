/* SPDX-License-Identifier: GPL-2.0-only */
/* What bindgen reads for the `kernel` crate that is brought along (kmod/crate/Kbuild). */

/* Before all else: bindgen gives an enum that is declared before it is defined another type. */
#include <linux/hrtimer_types.h>

#include <linux/bits.h>
#include <linux/blk-mq.h>
#include <linux/blk_types.h>
#include <linux/blkdev.h>
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/delay.h>
#include <linux/device.h>
#include <linux/errname.h>
#include <linux/errno.h>
#include <linux/fdtable.h>
#include <linux/file.h>
#include <linux/freezer.h>
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/jiffies.h>
#include <linux/kstrtox.h>
#include <linux/ktime.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/poll.h>
#include <linux/printk.h>
#include <linux/rcupdate.h>
#include <linux/refcount.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/suspend.h>
#include <linux/sysfs.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

/*
 * Constants that are expressions, which bindgen does not evaluate. Kbuild takes the prefix off;
 * where bindgen knows the name itself, it is told to leave it out.
 */
#define SRB_CONST(type, name) const type RUST_CONST_HELPER_##name = name

SRB_CONST(size_t, ARCH_SLAB_MINALIGN);
SRB_CONST(size_t, ARCH_KMALLOC_MINALIGN);
SRB_CONST(size_t, PAGE_SIZE);
SRB_CONST(gfp_t, GFP_ATOMIC);
SRB_CONST(gfp_t, GFP_KERNEL);
SRB_CONST(gfp_t, GFP_KERNEL_ACCOUNT);
SRB_CONST(gfp_t, GFP_NOWAIT);
SRB_CONST(gfp_t, __GFP_ZERO);
SRB_CONST(gfp_t, __GFP_HIGHMEM);
SRB_CONST(gfp_t, __GFP_NOWARN);
SRB_CONST(vm_flags_t, VM_MERGEABLE);
SRB_CONST(vm_flags_t, VM_READ);
SRB_CONST(vm_flags_t, VM_WRITE);
SRB_CONST(vm_flags_t, VM_EXEC);
SRB_CONST(vm_flags_t, VM_SHARED);
SRB_CONST(vm_flags_t, VM_MAYREAD);
SRB_CONST(vm_flags_t, VM_MAYWRITE);
SRB_CONST(vm_flags_t, VM_MAYEXEC);
SRB_CONST(vm_flags_t, VM_MAYSHARE);
SRB_CONST(vm_flags_t, VM_PFNMAP);
SRB_CONST(vm_flags_t, VM_IO);
SRB_CONST(vm_flags_t, VM_DONTCOPY);
SRB_CONST(vm_flags_t, VM_DONTEXPAND);
SRB_CONST(vm_flags_t, VM_LOCKONFAULT);
SRB_CONST(vm_flags_t, VM_ACCOUNT);
SRB_CONST(vm_flags_t, VM_NORESERVE);
SRB_CONST(vm_flags_t, VM_HUGETLB);
SRB_CONST(vm_flags_t, VM_SYNC);
SRB_CONST(vm_flags_t, VM_ARCH_1);
SRB_CONST(vm_flags_t, VM_WIPEONFORK);
SRB_CONST(vm_flags_t, VM_DONTDUMP);
SRB_CONST(vm_flags_t, VM_SOFTDIRTY);
SRB_CONST(vm_flags_t, VM_MIXEDMAP);
SRB_CONST(vm_flags_t, VM_HUGEPAGE);
SRB_CONST(vm_flags_t, VM_NOHUGEPAGE);

/* Names of errors that the crate has and older kernels lack; srb uses none of them. */
#ifndef EFSBADCRC
#define EFSBADCRC EBADMSG
#endif
#ifndef EFSCORRUPTED
#define EFSCORRUPTED EUCLEAN
#endif
#ifndef EFTYPE
#define EFTYPE 134
#endif
