// SPDX-License-Identifier: GPL-2.0-only
//! Refuses to compile when the bindings' structs are not those of the kernel that is built for.
//!
//! The sizes come from the kernel's own type information (BTF); `layout.list` names the structs.

include!(env!("SRB_LAYOUT"));
