//! `restore` without an id at a terminal: the questions, the plan, and the command line that does the same.

mod ended;
mod names;
mod support;
mod ways;
