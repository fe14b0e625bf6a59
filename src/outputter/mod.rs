//! Value to text: the outputters that Salt's users know. Pure.

pub mod python;
