//! A backup tool for MongoDB. This page is the map of the code.
//!
//! The folders are layers, and a folder imports only from folders further down:
//!
//! - [`cli`] parses the command line and prints results as text or JSON.
//! - [`ops`] has one module per operation, such as [`ops::backup`] or [`ops::restore`]: options in, a report out.
//! - [`notify`] sends mails, pings and webhooks about runs, and writes metrics.
//! - [`retention`] decides which backups to delete, with a reason for each. It reads no clock and no store.
//! - [`catalog`] knows which backups exist and in what state, from the manifests in the store and the records in MongoDB.
//! - [`restore_target`] writes to a MongoDB server.
//! - [`source`] reads a MongoDB server, with cursors of its own or with mongodump, and reads the oplog.
//! - [`mongo`] has the MongoDB client and the commands that readers and writers share.
//! - [`artifact`] writes and reads artifacts, the objects with the data of a backup.
//! - [`dumpformat`] has mongodump's formats: metadata, Extended JSON, file names and the archive.
//! - [`store`] keeps objects in an S3 bucket or a directory. It does not know what a backup is.
//! - [`model`] has the data types of a backup, such as its id, manifest and index.
//! - [`config`] merges flags, environment and file, and checks them before the first request.
//! - [`base`] has errors, exit codes, retries, locks, secrets and other foundations.
//!
//! `main` calls [`cli::run`]. `fuzz/parsers.rs` lists the parsers of foreign bytes, for the fuzz targets and their test.
//!
//! **Backup.** [`source`] passes whole documents, and after them an oplog slice that brings the data to one instant, to
//! [`artifact`]. There they are packed into blocks, compressed on all cores, framed as a tar or as mongodump's archive, and
//! cut into parts. [`store`] uploads the parts in any order. When everything is read, uploaded and checked, the index and
//! then the manifest are written. The manifest is the commit marker: from then on the backup exists. A run that fails earlier
//! leaves no backup, only a `failed.json` with the reason.
//!
//! **Restore.** [`ops::restore`] first plans: it reads the artifact or a dump, and looks at the target. It reads and checks
//! everything before it drops anything. Then it writes the namespaces, counts them, replays the oplog slice and builds the
//! indexes.
//!
//! **Cleanup.** [`ops::cleanup`] lists the backups with [`catalog`], plans the deletions with [`retention`], and deletes the
//! manifest of each backup first.
//!
//! Reading, compressing and writing run in threads with bounded queues between them; network requests are async. An error
//! ([`base::error`]) carries the failure, its causes and the next step, and [`base::exit`] maps it to an exit code.

pub mod artifact;
pub mod base;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod dumpformat;
#[cfg(any(test, fuzzing))]
#[path = "../fuzz/parsers.rs"]
pub mod fuzzing;
pub mod model;
pub mod mongo;
pub mod notify;
pub mod ops;
pub mod restore_target;
pub mod retention;
pub mod source;
pub mod store;
