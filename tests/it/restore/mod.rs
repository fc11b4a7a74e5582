//! Restores into real servers, compared with the original byte by byte.

mod round_trip;
mod support;
