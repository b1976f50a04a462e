// SPDX-License-Identifier: GPL-2.0-only
/* What Rust cannot say: inline functions and macros of the kernel that have no helper. */
#include <linux/blk-mq.h>
#include <linux/bottom_half.h>

void srb_set_bit(unsigned int bit, u64 *word);

void srb_set_bit(unsigned int bit, u64 *word)
{
	smp_mb__before_atomic();
	set_bit(bit, (unsigned long *)word);
	smp_mb__after_atomic();
}

void srb_end_request(struct request *rq, blk_status_t status);

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
