//! MongoDB backups that restore: the map of the system.
//!
//! A run goes downwards only. [`cli`] parses the command line and prints; [`config`] merges flags,
//! environment and file, and checks all of it before any network is touched; [`ops`] holds one
//! operation a module, options in, report out.
//!
//! `backup`, the heart of it ([`ops::backup`]): [`source`] describes a MongoDB server and reads it by one
//! of two engines, into a sink that takes whole documents, and behind them what the server wrote meanwhile
//! ([`source::oplog`]), which makes the data that of one instant. [`artifact`] packs them into blocks, has
//! all cores compress them, frames them as a tar or as mongodump's archive, and cuts the stream into
//! parts. [`store`] takes parts in any order, to a bucket or a directory, and knows nothing of
//! backups. When all is read, checked and uploaded, [`catalog`] writes the index and then the
//! manifest: from that moment the backup exists. Whatever fails before leaves nothing that counts, but
//! what is said about it: [`ops::recorded`] records each run in MongoDB, and tells the store why one failed.
//!
//! `cleanup` ([`ops::cleanup`]) goes the other way: [`catalog`] reads what there is, [`retention`] decides
//! with a reason for each backup, and what goes loses its manifest first.
//!
//! `verify` ([`ops::verify`]) reads an artifact again and holds every byte of it against manifest and index;
//! what it finds is kept beside the backup, and counts.
//!
//! `health` ([`ops::health`]) asks whether tonight's backup will work, by a list of checks, and whether there
//! is a good one of last night.
//!
//! `init` ([`ops::init`]) writes the configuration file of a new machine, from the example that ships.
//!
//! Beside that way stands [`notify`]: what happened becomes a mail, if it is worth one, and signals for
//! machines. It can fail, and then says so; it undoes nothing.
//!
//! `restore` ([`ops::restore`]) plans first: what the artifact or a dump of mongodump holds, and what [`target`]
//! finds at the server. Everything is read and checked before anything is dropped, then written namespace by
//! namespace, counted, and only then indexed.
//!
//! [`fuzzing`] lists the parsers that read foreign bytes, for the fuzz targets and the test of their corpus.
//!
//! The data path is threads (read, compress, write) with bounded queues between them; the network is
//! async, on a small runtime. Time, randomness and the terminal are passed in; nothing is global.
//! [`error`] says what failed, why and what to do next; [`exit`] turns that into the exit code.

pub mod artifact;
pub mod base;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod dumpformat;
#[doc(hidden)]
pub mod fuzzing;
pub mod model;
pub mod mongo;
pub mod notify;
pub mod ops;
pub mod restore_target;
pub mod retention;
pub mod source;
pub mod store;
