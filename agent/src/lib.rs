//! .

pub mod status;
