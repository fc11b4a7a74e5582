//! Every damage to an artifact is found, and named.

mod damage;
