//! What is followed: an image in a flavour.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Kind, Result};
use crate::vocab::{Flavour, OsImage};

/// An image in a flavour, written `IMAGE/FLAVOUR`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Followed {
    /// The image.
    pub image: OsImage,
    /// The flavour.
    pub flavour: Flavour,
}

impl FromStr for Followed {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let Some((image, flavour)) = text.split_once('/') else {
            return Err(Error::new(Kind::Usage, format!("`{}` names no flavour", text.escape_debug()))
                .hint("it looks like `IMAGE/FLAVOUR`, for example `makina-states-bionic/lxc`"));
        };
        Ok(Self { image: image.parse()?, flavour: flavour.parse()? })
    }
}

impl fmt::Display for Followed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.image, self.flavour)
    }
}
