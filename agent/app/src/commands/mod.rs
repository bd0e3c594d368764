//! One module per command.

pub(crate) mod bench;
pub(crate) mod config;
pub(crate) mod doctor;
pub(crate) mod enroll;
pub(crate) mod install;
pub(crate) mod run;
pub(crate) mod serve;
pub(crate) mod spool;
