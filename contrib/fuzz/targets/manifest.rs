//! Image documents from a stranger: what is taken keeps every member it does not understand.
#![no_main]

use castoff::oci::{Descriptor, ImageConfig, Index, Manifest};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(config) = ImageConfig::parse(data) {
        assert_eq!(config.bytes(), data);
        if let Ok(same) = config.with_layers(config.diff_ids(), config.history()) {
            assert_eq!(same.diff_ids(), config.diff_ids());
            assert_eq!(same.history().len(), config.history().len());
            for name in ["config", "created", "author", "x"] {
                assert_eq!(same.member(name), config.member(name));
            }
        }
    }
    // Unknown members are kept too, but numbers of fifty digits among them only as JSON numbers commonly are.
    let known = |descriptor: &Descriptor| (descriptor.media_type.clone(), descriptor.digest, descriptor.size);
    if let Ok(manifest) = serde_json::from_slice::<Manifest>(data) {
        let again: Manifest = serde_json::from_slice(&serde_json::to_vec(&manifest).unwrap()).unwrap();
        assert_eq!(known(&again.config), known(&manifest.config));
        assert!(again.layers.iter().map(known).eq(manifest.layers.iter().map(known)));
        assert!(again.other.keys().eq(manifest.other.keys()));
    }
    if let Ok(index) = serde_json::from_slice::<Index>(data) {
        let again: Index = serde_json::from_slice(&serde_json::to_vec(&index).unwrap()).unwrap();
        assert!(again.manifests.iter().map(known).eq(index.manifests.iter().map(known)));
        assert!(again.other.keys().eq(index.other.keys()));
    }
});
