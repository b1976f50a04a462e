// SPDX-License-Identifier: GPL-2.0-only
/* What Rust cannot say: inline functions and macros of the kernel that have no helper. */
#include <linux/blk-mq.h>
#include <linux/bottom_half.h>
#include <linux/capability.h>
#include <linux/device.h>
#include <linux/freezer.h>
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/pm.h>
#include <linux/pm_domain.h>
#include <linux/poll.h>
#include <linux/processor.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/stat.h>
#include <linux/string.h>
#include <linux/wait.h>

void srb_set_bit(unsigned int bit, u64 *word);

void srb_set_bit(unsigned int bit, u64 *word)
{
	smp_mb__before_atomic();
	set_bit(bit, (unsigned long *)word);
	smp_mb__after_atomic();
}

bool srb_may_spin(void);

/*
 * A step of a busy wait: whether to go on. Not when another thread could have the processor, nor
 * when a signal wants this one.
 */
bool srb_may_spin(void)
{
	cpu_relax();
	return single_task_running() && !need_resched() && !signal_pending(current);
}

bool srb_must_end(void);

/*
 * Whether a wait must end: a signal is on its way that somebody handles, or that kills. The
 * freezer, task work and the stop of another thread look like a signal to a sleeper, and are none.
 */
bool srb_must_end(void)
{
	sigset_t pending;
	bool any;

	if (fatal_signal_pending(current))
		return true;
	if (!signal_pending(current))
		return false;
	spin_lock_irq(&current->sighand->siglock);
	sigorsets(&pending, &current->pending.signal, &current->signal->shared_pending.signal);
	sigandnsets(&pending, &pending, &current->blocked);
	any = !sigisemptyset(&pending);
	spin_unlock_irq(&current->sighand->siglock);
	return any;
}

void srb_hold_signals(sigset_t *old);
void srb_let_signals(sigset_t *old);

/*
 * Holds those signals back that end nobody's command: a child has ended, the window has another
 * size, job control. They are delivered once the command is done.
 */
void srb_hold_signals(sigset_t *old)
{
	sigset_t harmless;

	siginitset(&harmless, sigmask(SIGCHLD) | sigmask(SIGWINCH) | sigmask(SIGCONT) |
			      sigmask(SIGURG) | sigmask(SIGSTOP) | sigmask(SIGTSTP) |
			      sigmask(SIGTTIN) | sigmask(SIGTTOU));
	sigprocmask(SIG_BLOCK, &harmless, old);
}

void srb_let_signals(sigset_t *old)
{
	sigprocmask(SIG_SETMASK, old, NULL);
}

bool srb_is_admin(void);

/* Whether the caller may configure block devices, in the machine itself and not in a container. */
bool srb_is_admin(void)
{
	return capable(CAP_SYS_ADMIN);
}

void srb_end_request(struct request *rq, blk_status_t status);
bool srb_batch_request(struct request *rq, struct io_comp_batch *batch);
void srb_end_batch(struct io_comp_batch *batch);

/*
 * With bottom halves disabled the final fput() of an I/O's file goes to a work item. Otherwise it
 * could become task work of the agent, which would then run blkdev_release() and wait for
 * open_mutex, whose holder waits for the agent.
 */
void srb_end_request(struct request *rq, blk_status_t status)
{
	local_bh_disable();
	blk_mq_end_request(rq, status);
	local_bh_enable();
}

/* Lets a request end with success together with others; false: it must end by itself. */
bool srb_batch_request(struct request *rq, struct io_comp_batch *batch)
{
	return blk_mq_add_to_batch(rq, batch, false, blk_mq_end_request_batch);
}

/* Ends what was added. Bottom halves: as above. */
void srb_end_batch(struct io_comp_batch *batch)
{
	if (!batch->complete)
		return;
	local_bh_disable();
	batch->complete(batch);
	local_bh_enable();
}

struct request *srb_pop_request(struct rq_list *list);
void srb_push_request(struct rq_list *list, struct request *rq);

struct request *srb_pop_request(struct rq_list *list)
{
	return rq_list_pop(list);
}

void srb_push_request(struct rq_list *list, struct request *rq)
{
	rq_list_add_tail(list, rq);
}

unsigned int srb_noio_enter(void);
void srb_noio_leave(unsigned int before);

/* From here on the thread's allocations start no I/O, and so wait for none. */
unsigned int srb_noio_enter(void)
{
	return memalloc_noio_save();
}

void srb_noio_leave(unsigned int before)
{
	memalloc_noio_restore(before);
}

void srb_set_freezable(void);

/* A kernel without a freezer has nothing but an inline function for it. */
void srb_set_freezable(void)
{
	set_freezable();
}

void srb_nap(long jiffies);

/*
 * Sleeps, signals or not; a machine that goes to sleep meanwhile may freeze the caller as it is.
 * Callers hold no lock but those that sysfs holds around every call, which nobody needs who must
 * run before they are woken.
 */
void srb_nap(long jiffies)
{
	__set_current_state(TASK_UNINTERRUPTIBLE | TASK_FREEZABLE_UNSAFE);
	schedule_timeout(jiffies);
}

void srb_wait_init(struct wait_queue_head *queue);
void srb_wait_end(struct wait_queue_head *queue);
void srb_wait_poll(struct file *file, struct wait_queue_head *queue, poll_table *table);

void srb_wait_init(struct wait_queue_head *queue)
{
	init_waitqueue_head(queue);
}

/* Those who waited have left before: kmod/ffi/wait.rs says why. */
void srb_wait_end(struct wait_queue_head *queue)
{
	WARN_ON_ONCE(waitqueue_active(queue));
}

void srb_wait_poll(struct file *file, struct wait_queue_head *queue, poll_table *table)
{
	poll_wait(file, queue, table);
}

void srb_watch_sleep(struct device *dev, int (*sleep)(struct device *),
		     int (*thaw)(struct device *));

/* A device without bus, driver and class of its own has no other place for these. */
void srb_watch_sleep(struct device *dev, int (*sleep)(struct device *),
		     int (*thaw)(struct device *))
{
	static struct dev_pm_domain domain;

	domain.ops.suspend = sleep;
	domain.ops.freeze = sleep;
	domain.ops.poweroff = sleep;
	domain.ops.thaw = thaw;
	device_lock(dev);
	dev_pm_domain_set(dev, &domain);
	device_unlock(dev);
}

struct page *srb_page(bool waits);
bool srb_page_is_alone(struct page *page);

/*
 * A page of zeros. Who cannot wait may be writing pages out for want of memory, with the right to
 * the last of it: that is left to those who need it for the writing to end, the agent's sockets.
 */
struct page *srb_page(bool waits)
{
	gfp_t gfp = waits ? GFP_KERNEL : GFP_NOWAIT | __GFP_NOMEMALLOC;

	return alloc_page(gfp | __GFP_ZERO | __GFP_NOWARN);
}

/* Whether nobody but the caller holds a page; if it is mapped nowhere, that stays so. */
bool srb_page_is_alone(struct page *page)
{
	return page_count(page) == 1;
}

void *srb_page_memory(struct page *page);
struct page *srb_page_of(const void *memory);

void *srb_page_memory(struct page *page)
{
	return page_address(page);
}

struct page *srb_page_of(const void *memory)
{
	return virt_to_page(memory);
}

void srb_copy(void *to, const void *from, size_t len);

/* Memory that is shared with the agent: what is copied is whatever stands there at the moment. */
void srb_copy(void *to, const void *from, size_t len)
{
	memcpy(to, from, len);
}
