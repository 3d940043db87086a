//! What a user would pick instead: stores that keep data in files, and Redis. Their files are on tmpfs and nothing is
//! synced, which is the best case for each of them. Opened by `who.rs`. The libraries are built with the feature
//! `peers` only.

#[cfg(feature = "peers")]
pub mod fjalls;
#[cfg(feature = "peers")]
pub mod lmdb;
#[cfg(feature = "peers")]
pub mod redbs;
pub mod redis;
#[cfg(feature = "peers")]
pub mod sqlite;
