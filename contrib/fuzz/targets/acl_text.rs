//! ACLs from a stranger, as text and in binary: whatever is taken is the same in the other form and back.
#![no_main]

use castoff::rootfs::acl::{Acl, Numeric};
use libfuzzer_sys::fuzz_target;

fn check(acl: &Acl) {
    assert_eq!(Acl::from_xattr(&acl.to_xattr()).as_ref(), Ok(acl));
    assert_eq!(Acl::from_text(acl.to_text().as_bytes(), &Numeric).as_ref(), Ok(acl));
    assert!(acl.mode_bits() <= 0o777);
    assert_eq!(acl.is_minimal(), *acl == Acl::from_mode(acl.mode_bits()));
}

fuzz_target!(|data: &[u8]| {
    if let Ok(acl) = Acl::from_text(data, &Numeric) {
        check(&acl);
    }
    if let Ok((access, default)) = Acl::pair_from_text(data, &Numeric) {
        access.iter().chain(&default).for_each(check);
    }
    if let Ok(acl) = Acl::from_xattr(data) {
        check(&acl);
    }
});
