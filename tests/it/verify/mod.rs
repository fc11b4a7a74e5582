//! Every damage to an artifact is found and named.

mod command;
mod damage;
