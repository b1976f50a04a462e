// SPDX-License-Identifier: GPL-2.0-only
//! Refuses to compile when the bindings' structs are not those of the kernel that is built for.
//!
//! The sizes come from the kernel's own type information (BTF); `layout.list` names the structs.

include!(env!("SRB_LAYOUT"));

// proto's layout is in pages of this size, and in words that hold the kernel's pointers.
const _: () = assert!(
    crate::proto::layout::PAGE_BYTES == kernel::bindings::PAGE_SIZE,
    "the kernel's pages have another size than those of the shared memory"
);
const _: () = assert!(usize::BITS == 64, "srb is for machines of 64 bits");
