//! What released files are called.

use super::Compression;
use crate::error::Result;
use crate::vocab::{DiffId, FileName, Flavour, OsImage, ReleaseNumber};

/// `IMG-FLAVOR-N.tar.xz`, the name that never changes its content.
pub fn archive_name(
    image: &OsImage,
    flavour: &Flavour,
    number: ReleaseNumber,
    compression: Compression,
) -> Result<FileName> {
    format!("{image}-{flavour}-{number}{}", compression.suffix()).parse()
}

/// The number in an archive's name, if it is exactly one of this image and flavour.
pub fn parse_archive_name(
    image: &OsImage,
    flavour: &Flavour,
    compression: Compression,
    name: &str,
) -> Option<ReleaseNumber> {
    let rest = name.strip_prefix(image.as_str())?.strip_prefix('-')?.strip_prefix(flavour.as_str())?;
    rest.strip_prefix('-')?.strip_suffix(compression.suffix())?.parse().ok()
}

/// `IMG-FLAVOR-N.from-HEX.zst`: the patch that makes release N of the bare tar whose digest begins so.
pub fn patch_name(image: &OsImage, flavour: &Flavour, number: ReleaseNumber, from: DiffId) -> Result<FileName> {
    format!("{image}-{flavour}-{number}.from-{}.zst", &from.0.hex()[..16]).parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_name_of_an_archive_has_a_number() {
        let (image, flavour) = ("makina-states-trusty".parse().unwrap(), "lxc".parse().unwrap());
        let number = |name| parse_archive_name(&image, &flavour, Compression::Xz, name).map(ReleaseNumber::get);
        assert_eq!(number("makina-states-trusty-lxc-25.tar.xz"), Some(25));
        for other in [
            "makina-states-trusty-lxc-25.tar.xz.tmp",
            "makina-states-trusty-lxc-25.tar.xz.0123456789abcdef.part",
            "makina-states-trusty.tar.xz",
            "makina-states-trusty-25.tar.xz",
            "makina-states-trusty-lxc-rc1.tar.xz",
            "makina-states-trusty-lxc-025.tar.xz",
            "makina-states-trusty-lxc-0.tar.xz",
            "makina-states-trusty-lxc-25.tar.zst",
            "makina-states-trusty-standalone-25.tar.xz",
        ] {
            assert_eq!(number(other), None, "{other}");
        }
        let name = archive_name(&image, &flavour, ReleaseNumber::FIRST, Compression::Zstd).unwrap();
        assert_eq!(name.as_str(), "makina-states-trusty-lxc-1.tar.zst");
    }
}
