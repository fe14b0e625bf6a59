//! Front-ends: what users wrote for other programs becomes plans.
//!
//! Pure: a front-end gets texts and what the caller saw of the machine, as values, and gives [`crate::plan::Plans`] or
//! every problem with its place at once. Knows no engine, no cache and no clock, and runs nothing.
//!
//! To add one, add a file here and a line in [`FRONT_ENDS`].

pub mod archive;
pub mod forest;
pub mod lxc;

/// A kind of document that becomes plans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrontEnd {
    /// What it is called.
    pub name: &'static str,
    /// The file that it reads, as users call it.
    pub file: &'static str,
    /// What such a file says.
    pub doc: &'static str,
}

/// Every front-end that reads a file.
pub const FRONT_ENDS: &[FrontEnd] = &[FrontEnd {
    name: "forest",
    file: forest::FILE,
    doc: "images of virtual machines that build on one another (lvh)",
}];
