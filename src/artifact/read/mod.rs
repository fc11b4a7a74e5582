//! Reading artifacts: segments and the regions between them, decompressed, counted and hashed.

pub mod described;
pub mod region;
pub mod regions;
pub mod segment;
