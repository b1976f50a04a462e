//! .

pub mod status;
pub mod errors;
pub mod pipeline;
pub mod repository;
pub mod settings;
pub mod volume;
pub mod window;
