//! Images for tests, written by Python, and what every test of images asks of them.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use castoff::error::{Error, Result};
use castoff::oci::{ImageSource, OpenedLayer, SpoolLimits, open_layer, scan_verified};
use castoff::progress::Progress;
use castoff::rootfs::ReadAt;

/// What every script begins with.
const WRITER: &str = r#"
import gzip, hashlib, io, json, os, subprocess, sys, tarfile, zlib
def sha(data): return hashlib.sha256(data).hexdigest()
def tar(files, format=tarfile.GNU_FORMAT):
    "files: name -> bytes, or a string for a symbolic link"
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as t:
        for name, data in (files.items() if isinstance(files, dict) else files):
            i = tarfile.TarInfo(name)
            if isinstance(data, str): i.type, i.linkname = tarfile.SYMTYPE, data; t.addfile(i)
            else: i.size = len(data); t.addfile(i, io.BytesIO(data))
    return out.getvalue()
def config(layers, arch="amd64", **more):
    return json.dumps({"architecture": arch, "os": "linux", "config": {"Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + sha(l) for l in layers]},
        "history": [{"created_by": "test"} for _ in layers], **more}).encode()
def write(name, data):
    os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
    with open(name, "wb") as f: f.write(data)
def zstd(data): return subprocess.run(["zstd", "-q", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout
L1, L2 = tar({"etc/one": b"1" * 700}), tar({"etc/two": b"2" * 70000})
OCI = "application/vnd.oci.image."
def desc(kind, data, **more): return {"mediaType": kind, "digest": "sha256:" + sha(data), "size": len(data), **more}
class Layout:
    "An OCI layout as a map of files"
    def __init__(self): self.files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}; self.top = []
    def blob(self, data): self.files["blobs/sha256/" + sha(data)] = data; return data
    def image(self, layers, stored=None, conf=None, kind=OCI + "manifest.v1+json", layer_kind=OCI + "layer.v1.tar", **more):
        stored = stored or layers
        conf = self.blob(conf or config(layers))
        for s in stored: self.blob(s)
        m = {"schemaVersion": 2, "mediaType": kind, "config": desc(OCI + "config.v1+json", conf),
             "layers": [desc(layer_kind, s) for s in stored]}
        return desc(kind, self.blob(json.dumps(m).encode()), **more)
    def index(self, manifests, **more):
        kind = OCI + "index.v1+json"
        return desc(kind, self.blob(json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": manifests}).encode()), **more)
    def done(self): self.files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": self.top}).encode(); return self.files
    def directory(self, name):
        for path, data in self.done().items(): write(name + "/" + path, data)
def tag(name): return {"annotations": {"org.opencontainers.image.ref.name": name}}
"#;

/// Runs a script in `folder`; what it printed.
pub(crate) fn python(folder: &Path, script: &str) -> String {
    let output = Command::new("python3")
        .args(["-c", &format!("{WRITER}\n{script}")])
        .current_dir(folder)
        .output()
        .expect("python3 starts");
    assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The bare bytes of every layer, compared with what the configuration promises.
pub(crate) fn bare_layers(image: &ImageSource, scratch: &Path) -> Result<Vec<Vec<u8>>> {
    let progress = Progress::silent();
    let mut all = Vec::new();
    for layer in &image.layers {
        let opened = open_layer(layer, scratch, &SpoolLimits { free_floor: 0, ..SpoolLimits::default() }, &progress)?;
        all.push(bytes_of(&opened)?);
    }
    Ok(all)
}

fn bytes_of(layer: &OpenedLayer) -> Result<Vec<u8>> {
    let content: &Arc<dyn ReadAt> = &layer.content;
    if layer.verified {
        let mut bytes = vec![0; content.size() as usize];
        content.read_exact_at(&mut bytes, 0).expect("readable");
        return Ok(bytes);
    }
    scan_verified(layer, |reader| {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(reader, &mut bytes).expect("readable");
        Ok(bytes)
    })
}

/// Fails unless the result is an error of this kind whose whole text holds every one of `words`.
#[track_caller]
pub(crate) fn expect_error<T>(result: Result<T>, kind: castoff::error::Kind, words: &[&str]) -> Error {
    let error = result.err().unwrap_or_else(|| panic!("no error, though {words:?} is wanted"));
    let text = error.render();
    assert_eq!(error.kind(), kind, "{text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
    error
}
