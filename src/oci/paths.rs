//! Where things lie in an OCI image layout (image-spec, image-layout.md).

use crate::vocab::Digest;

/// The content of a layout's `oci-layout`.
pub(super) const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// The path of a blob.
pub(super) fn blob_name(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
