//! Images from and to a real registry; skopeo judges. What lines and servers do wrong is done by `registry_proxy.py`.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::Value;

use crate::faults::{assert_store_is_whole, leftovers, make};
use crate::harness::{Castoff, program, succeed};
use crate::ports::free_port;
use crate::registry_server::{Server, noise, skopeo};

/// An image with a layer of noise in the store, `store:noise:1`.
fn with_noise(castoff: &Castoff, megabytes: usize) {
    let tree = castoff.scratch().join("tree");
    std::fs::create_dir_all(&tree).unwrap();
    std::fs::write(tree.join("noise"), noise(megabytes << 20)).unwrap();
    castoff.call(&["image.pack", &format!("dir:{}", tree.display()), "store:noise:1"]);
}

fn digest_of(reference: &str) -> String {
    skopeo(&["inspect", "--format", "{{.Digest}}", reference]).trim().to_owned()
}

#[test]
fn an_image_goes_to_a_registry_and_comes_back_as_it_was() {
    let castoff = Castoff::new();
    let registry = Server::registry(&castoff.scratch().join("registry"), "");
    let archive = castoff.scratch().join("in.tar");
    make(&archive, "castoff-test-registry:1", "content", &[]);
    let archive = format!("docker-archive:{}", archive.display());
    let there = registry.name("group/a:1");

    let sent = castoff.call(&["image.copy", &archive, &there, "compression=gzip"]);
    assert_eq!(sent["digest"].as_str().unwrap(), digest_of(&there), "{sent}");
    let again = castoff.call(&["image.copy", &archive, &there, "compression=gzip"]);
    assert_eq!((&again["bytes"]["out"], &again["digest"]), (&0.into(), &sent["digest"]), "what is there is not sent");

    let other = Castoff::new();
    let found = other.call(&["image.copy", &there, "store:back:1"]);
    assert_eq!(found["image_id"], sent["image_id"]);
    let same = other.call(&["image.verify", &there, &archive]);
    assert_eq!(same["result"], true, "{same}");
    let seen = other.call(&["image.inspect", &there]);
    assert_eq!((&seen["fetched_bytes"], &seen["digest"]), (&0.into(), &sent["digest"]), "nothing is fetched twice");
    let list = other.run(["call", "--out=json", "image.list"]);
    assert!(list.contains(&format!("127.0.0.1:{}/group/a:1", registry.port)), "{list}");
    assert_store_is_whole(&other);
    let missing = other.fail(["call", "--retcode-passthrough", "image.inspect", &registry.name("group/none:1")], 66);
    assert!(missing.contains("404"), "{missing}");
}

#[test]
fn what_skopeo_pushed_keeps_its_manifest_byte_for_byte_through_the_store_and_is_mounted_next_door() {
    let castoff = Castoff::new();
    let registry = Server::registry(&castoff.scratch().join("registry"), "");
    let archive = castoff.scratch().join("in.tar");
    make(&archive, "castoff-test-registry:2", "content", &[]);
    for format in ["v2s2", "oci"] {
        let (first, second) = (registry.name(&format!("{format}/a:1")), registry.name(&format!("{format}/b:1")));
        skopeo(&["copy", "--format", format, &format!("docker-archive:{}", archive.display()), &first]);
        let done = castoff.call(&["image.copy", &first, &second]);
        assert_eq!(skopeo(&["inspect", "--raw", &first]), skopeo(&["inspect", "--raw", &second]), "{done}");
        assert_eq!(done["digest"].as_str().unwrap(), digest_of(&first));
        assert!(done["blobs"]["mounted"].as_u64().unwrap() > 0, "{done}");
        assert_eq!(done["bytes"]["out"], 0, "{done}");
        let digest = digest_of(&first);
        let by_digest = format!("{}@{digest}", first.strip_suffix(":1").unwrap());
        assert_eq!(castoff.call(&["image.inspect", &by_digest])["fetched_bytes"], 0);
        castoff.fail(["call", "--retcode-passthrough", "image.copy", &first, &by_digest], 64);
    }
    // skopeo reads the store itself, with the names that registries gave.
    let name = format!("oci:{}:127.0.0.1:{}/oci/a:1", castoff.state().join("store").display(), registry.port);
    succeed(program("skopeo").args(["inspect", "--raw", &name]));
}

#[test]
fn a_large_blob_goes_in_pieces_and_a_broken_line_is_taken_up_again() {
    let castoff = Castoff::new();
    let registry = Server::registry(&castoff.scratch().join("registry"), "");
    let proxy = Server::before(&registry, castoff.scratch(), &["upload=1"]);
    with_noise(&castoff, 70);
    castoff.call(&["image.copy", "store:noise:1", &proxy.name("big:1")]);
    let pieces = proxy.asked().into_iter().filter(|asked| asked["method"] == "PATCH").collect::<Vec<_>>();
    let sent: u64 = pieces.iter().map(|asked| asked["sent"].as_u64().unwrap()).sum();
    assert!(pieces.len() == 3 && sent < 135 << 20, "{pieces:?}");
    skopeo(&["copy", &registry.name("big:1"), &format!("dir:{}", castoff.scratch().join("copy").display())]);
}

#[test]
fn who_we_are_is_taken_from_auth_files_and_programs_and_told_to_nobody() {
    let castoff = Castoff::new();
    let folder = castoff.scratch();
    let auth = password_file(folder);
    let registry = Server::registry(&folder.join("registry"), &auth);
    with_noise(&castoff, 1);
    let there = registry.name("secret/a:1");
    let copy = ["call", "--retcode-passthrough", "-l", "trace", "image.copy", "store:noise:1", &there];
    let nobody = castoff.command(copy).env("HOME", folder).output().unwrap();
    assert_eq!(nobody.status.code(), Some(77));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("login"), "{}", String::from_utf8_lossy(&nobody.stderr));

    let pair = "c29tZW9uZTpjYW5hcnktcGFzc3dvcmQ="; // someone:canary-password
    let json = format!("{{\"auths\": {{\"127.0.0.1:{}\": {{\"auth\": \"{pair}\"}}}}}}", registry.port);
    let places = [
        ("REGISTRY_AUTH_FILE", "auth.json"),
        ("DOCKER_CONFIG", "config.json"),
        ("XDG_RUNTIME_DIR", "containers/auth.json"),
        ("HOME", ".docker/config.json"),
    ];
    for (variable, file) in places {
        let own = folder.join(variable);
        let path = own.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &json).unwrap();
        let value = if variable == "REGISTRY_AUTH_FILE" { path } else { own };
        let done = castoff.command(copy).env("HOME", folder).env(variable, value).output().unwrap();
        let told = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(done.status.success(), "{variable}: {told}");
        assert!(!told.contains("canary") && !told.contains(pair), "{variable}: {told}");
    }

    let bin = folder.join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    let helper = bin.join("docker-credential-castofftest");
    let script = "#!/bin/sh\n[ \"$#\" = 1 ] && [ \"$1\" = get ] || exit 2\nread server\necho \"$server\" >> \"$(dirname \"$0\")/asked\"\nprintf '{\"ServerURL\":\"%s\",\"Username\":\"someone\",\"Secret\":\"canary-password\"}' \"$server\"\n";
    std::fs::write(&helper, script).unwrap();
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(folder.join("helper.json"), "{\"credsStore\": \"castofftest\"}").unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let done = castoff
        .command(["call", "image.inspect", &there])
        .env("PATH", path)
        .env("CASTOFF_REGISTRIES_AUTH_FILE", folder.join("helper.json"))
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(std::fs::read_to_string(bin.join("asked")).unwrap(), format!("127.0.0.1:{}\n", registry.port));

    std::fs::write(folder.join("wrong.json"), json.replace(pair, "c29tZW9uZTp3cm9uZy1jYW5hcnk=")).unwrap();
    let wrong = castoff.command(copy).env("REGISTRY_AUTH_FILE", folder.join("wrong.json")).output().unwrap();
    assert_eq!(wrong.status.code(), Some(77));
    assert!(!String::from_utf8_lossy(&wrong.stderr).contains("wrong-canary"));
}

/// What makes a registry want a password: `someone` and `canary-password`.
fn password_file(folder: &std::path::Path) -> String {
    let path = folder.join("htpasswd");
    std::fs::write(&path, succeed(program("htpasswd").args(["-Bbn", "someone", "canary-password"]))).unwrap();
    format!("auth: {{htpasswd: {{realm: castoff, path: {}}}}}\n", path.display())
}

#[test]
fn a_token_is_fetched_for_what_is_wanted_and_the_password_goes_to_the_token_server_alone() {
    let castoff = Castoff::new();
    let folder = castoff.scratch();
    let port = free_port();
    let tokens = Server::tokens(folder, port, ("someone", "canary-password"));
    let auth = format!(
        "auth: {{token: {{realm: 'http://127.0.0.1:{port}/token', service: castoff-test, issuer: castoff-test, rootcertbundle: {}}}}}\n",
        folder.join("token.pem").display()
    );
    let registry = Server::registry(&folder.join("registry"), &auth);
    let proxy = Server::before(&registry, folder, &[]);
    with_noise(&castoff, 1);
    let there = proxy.name("group/a:1");
    let copy = ["call", "--retcode-passthrough", "image.copy", "store:noise:1", &there];
    assert_eq!(castoff.command(copy).env("HOME", folder).output().unwrap().status.code(), Some(77));
    let pair = "c29tZW9uZTpjYW5hcnktcGFzc3dvcmQ=";
    let json = format!("{{\"auths\": {{\"127.0.0.1:{}\": {{\"auth\": \"{pair}\"}}}}}}", proxy.port);
    std::fs::write(folder.join("auth.json"), json).unwrap();
    let done = castoff.command(copy).env("REGISTRY_AUTH_FILE", folder.join("auth.json")).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    // Who only reads needs no password here.
    let reader = Castoff::new();
    succeed(reader.command(["call", "image.inspect", &there]).env("HOME", folder));
    let seen = proxy.asked();
    let headers: Vec<&str> = seen.iter().filter_map(|asked| asked["authorization"].as_str()).collect();
    assert!(!headers.is_empty() && headers.iter().all(|header| header.starts_with("Bearer ")), "{headers:?}");
    let asked: Vec<String> = tokens.asked().iter().map(|asked| asked["path"].to_string()).collect();
    assert!(asked.iter().any(|path| path.contains("scope=repository%3Agroup%2Fa%3Apull%2Cpush")), "{asked:?}");
}

/// An authority of the test's own: its certificate, and what it signed for this machine with the key of that.
fn authority(folder: &std::path::Path, name: &str) -> [std::path::PathBuf; 3] {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let own = KeyPair::generate().unwrap();
    let authority = params.self_signed(&own).unwrap().pem();
    let issuer = Issuer::new(params, own);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap().pem();
    [("authority", authority), ("certificate", certificate), ("key", key.serialize_pem())].map(|(kind, text)| {
        let path = folder.join(format!("{name}-{kind}.pem"));
        std::fs::write(&path, text).unwrap();
        path
    })
}

#[test]
fn a_registry_over_tls_is_trusted_by_the_named_authority_alone() {
    let castoff = Castoff::new();
    let folder = castoff.scratch();
    let [ours, certificate, key] = authority(folder, "ours");
    let [theirs, ..] = authority(folder, "theirs");
    let auth = password_file(folder);
    let registry = Server::registry_over_tls(&folder.join("registry"), &auth, (&certificate, &key));
    with_noise(&castoff, 1);
    let host = format!("localhost:{}", registry.port);
    let there = format!("docker://{host}/group/a:1");
    let json = format!("{{\"auths\": {{\"{host}\": {{\"auth\": \"c29tZW9uZTpjYW5hcnktcGFzc3dvcmQ=\"}}}}}}");
    let login = folder.join("auth.json");
    std::fs::write(&login, json).unwrap();
    std::fs::set_permissions(&login, std::fs::Permissions::from_mode(0o600)).unwrap();
    let run = |arguments: &[&str], authorities: Option<&std::path::Path>| {
        let mut command = castoff.command([&["call", "--retcode-passthrough", "--out=json"], arguments].concat());
        command.env("REGISTRY_AUTH_FILE", &login);
        command.envs(authorities.map(|path| ("CASTOFF_REGISTRIES_AUTHORITIES", path)));
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let copy = ["image.copy", "store:noise:1", &there];
    for authorities in [None, Some(theirs.as_path())] {
        let (code, told) = run(&copy, authorities);
        assert_eq!(code, Some(77), "{told}");
        assert!(told.contains("is not trusted") && told.contains("certificate"), "{told}");
    }
    let (code, told) = run(&copy, Some(&ours));
    assert_eq!(code, Some(0), "{told}");
    assert!(!told.contains("chmod"), "{told}");
    let seen = succeed(program("skopeo").args(["inspect", "--format={{.Name}}", "--tls-verify=false"]).args([
        "--authfile",
        &login.display().to_string(),
        &there,
    ]));
    assert_eq!(seen.trim(), format!("{host}/group/a"));
    // A mirror has to show who it is as well; and an auth file that others may read is told of.
    std::fs::set_permissions(&login, std::fs::Permissions::from_mode(0o644)).unwrap();
    let other = Castoff::new()
        .with("CASTOFF_REGISTRIES_MIRRORS", format!("{{registry.castoff.invalid: ['https://{host}/']}}"))
        .with("REGISTRY_AUTH_FILE", login.display().to_string());
    let inspect = ["call", "--retcode-passthrough", "image.inspect", "docker://registry.castoff.invalid/group/a:1"];
    let untrusted = other.command(inspect).output().unwrap();
    assert!(!untrusted.status.success());
    assert!(String::from_utf8_lossy(&untrusted.stderr).contains("is not trusted"), "{untrusted:?}");
    let trusted = other.command(inspect).env("CASTOFF_REGISTRIES_AUTHORITIES", &ours).output().unwrap();
    let told = String::from_utf8_lossy(&trusted.stderr);
    assert!(trusted.status.success(), "{told}");
    assert!(told.contains(&format!("others may read or change `{}`", login.display())), "{told}");
}

#[test]
fn a_pull_that_is_killed_goes_on_where_it_stopped() {
    let castoff = Castoff::new();
    let registry = Server::registry(&castoff.scratch().join("registry"), "");
    with_noise(&castoff, 8);
    castoff.call(&["image.copy", "store:noise:1", &registry.name("noise:1")]);
    let proxy = Server::before(&registry, castoff.scratch(), &["slow=65536"]);
    let other = Castoff::new();
    let there = proxy.name("noise:1");
    let inspect = ["call", "--out=json", "image.inspect", &there];
    let killed = other.command(inspect).env("CASTOFF_FAULT", "store.part.grown@5").output().unwrap();
    assert_eq!(killed.status.signal(), Some(9), "{}", String::from_utf8_lossy(&killed.stderr));
    let before = proxy.blobs().len();
    let found = other.call(&["image.inspect", &there]);
    let large: Vec<Value> =
        proxy.blobs()[before..].iter().filter(|asked| asked["bytes"].as_u64().unwrap() > 100_000).cloned().collect();
    assert_eq!(large.len(), 1, "{large:?}");
    let from: u64 =
        large[0]["range"].as_str().unwrap().trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap();
    assert!(from >= 5 << 20, "bytes before the kill are not asked for again: {large:?}");
    assert_eq!(large[0]["status"], 206);
    assert!(found["fetched_bytes"].as_u64().unwrap() < 4 << 20, "{found}");
    assert_store_is_whole(&other);
    assert_eq!(leftovers(&other), Vec::<std::path::PathBuf>::new());
    assert_eq!(std::fs::read_dir(other.state().join("store/castoff/parts")).unwrap().count(), 0);
}

#[test]
fn every_point_of_a_pull_may_be_its_last_and_the_next_one_finishes() {
    let castoff = Castoff::new();
    let registry = Server::registry(&castoff.scratch().join("registry"), "");
    with_noise(&castoff, 2);
    castoff.call(&["image.copy", "store:noise:1", &registry.name("noise:1"), "compression=gzip"]);
    let there = registry.name("noise:1");
    let log = castoff.scratch().join("points");
    let first = Castoff::new();
    succeed(first.command(["call", "image.copy", &there, "store:x:1"]).env("CASTOFF_FAULT_LOG", &log));
    let mut points: Vec<String> = std::fs::read_to_string(&log).unwrap().lines().map(str::to_owned).collect();
    points.sort();
    points.dedup();
    assert!(points.iter().any(|point| point.starts_with("store.part.")), "{points:?}");
    for point in points {
        let other = Castoff::new();
        let copy = ["call", "--out=json", "image.copy", &there, "store:x:1"];
        let killed = other.command(copy).env("CASTOFF_FAULT", &point).output().unwrap();
        assert_eq!(killed.status.signal(), Some(9), "{point}: {}", String::from_utf8_lossy(&killed.stderr));
        succeed(&mut other.command(copy));
        assert_store_is_whole(&other);
        assert_eq!(leftovers(&other), Vec::<std::path::PathBuf>::new(), "after {point}");
    }
}

#[test]
fn broken_lines_busy_servers_and_lies_are_survived_or_named() {
    let castoff = Castoff::new();
    let registry = Server::registry(&castoff.scratch().join("registry"), "");
    with_noise(&castoff, 2);
    castoff.call(&["image.copy", "store:noise:1", &registry.name("noise:1")]);
    let run = |faults: &[&str]| {
        let proxy = Server::before(&registry, castoff.scratch(), faults);
        let other = Castoff::new();
        let there = proxy.name("noise:1");
        let output =
            other.command(["call", "--retcode-passthrough", "--out=json", "image.inspect", &there]).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned(), proxy, other)
    };
    let (code, told, proxy, other) = run(&["cut=700000"]);
    assert_eq!(code, Some(0), "{told}");
    let ranges: Vec<Value> = proxy.blobs().into_iter().filter(|asked| !asked["range"].is_null()).collect();
    assert_eq!(ranges.len(), 1);
    assert_eq!(ranges[0]["range"], "bytes=700000-", "it goes on where the line broke");
    assert_store_is_whole(&other);

    let begun = std::time::Instant::now();
    let (code, told, ..) = run(&["busy=2"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(begun.elapsed().as_secs_f32() >= 2.0, "`Retry-After` is honoured");

    let (code, told, _, other) = run(&["damage=1"]);
    assert_eq!(code, Some(65), "{told}");
    assert!(told.contains("is not what it should be"), "{told}");
    assert_eq!(other.call(&["store.verify"])["result"], true);
    let (code, told, _, other) = run(&["endless=1"]);
    assert_eq!(code, Some(65), "{told}");
    assert!(told.contains("more than the"), "{told}");
    let parts = other.state().join("store/castoff/parts");
    let kept: u64 = std::fs::read_dir(parts).unwrap().map(|part| part.unwrap().metadata().unwrap().len()).sum();
    assert!(kept == 0, "{kept} bytes of a lie were kept");
    other.call(&["image.gc"]);
    assert_eq!(std::fs::read_dir(other.state().join("store/castoff/parts")).unwrap().count(), 0);
}

#[test]
fn another_host_that_blobs_are_redirected_to_never_hears_who_we_are() {
    let castoff = Castoff::new();
    let folder = castoff.scratch();
    let auth = password_file(folder);
    let open = Server::registry(&folder.join("registry"), "");
    let closed = Server::registry(&folder.join("registry"), &auth);
    with_noise(&castoff, 1);
    castoff.call(&["image.copy", "store:noise:1", &open.name("noise:1")]);
    let elsewhere = Server::before(&open, folder, &[]);
    let proxy = Server::before(&closed, folder, &[&format!("redirect={}", elsewhere.port)]);
    let json =
        format!("{{\"auths\": {{\"127.0.0.1:{}\": {{\"auth\": \"c29tZW9uZTpjYW5hcnktcGFzc3dvcmQ=\"}}}}}}", proxy.port);
    std::fs::write(folder.join("auth.json"), json).unwrap();
    let other = Castoff::new();
    let there = proxy.name("noise:1");
    succeed(other.command(["call", "image.inspect", &there]).env("REGISTRY_AUTH_FILE", folder.join("auth.json")));
    let seen = elsewhere.asked();
    assert!(!seen.is_empty() && seen.iter().all(|asked| asked["authorization"].is_null()), "{seen:?}");
    assert!(proxy.blobs().iter().all(|asked| asked["authorization"].as_str().unwrap_or("Basic").starts_with("Basic")));
}

#[test]
fn mirrors_are_asked_first_and_one_that_is_down_or_lies_is_passed_over() {
    let castoff = Castoff::new();
    let registry = Server::registry(&castoff.scratch().join("registry"), "");
    with_noise(&castoff, 1);
    castoff.call(&["image.copy", "store:noise:1", &registry.name("group/noise:1")]);
    let liar = Server::before(&registry, castoff.scratch(), &["damage=1"]);
    let mirrors = format!(
        "{{registry.castoff.invalid: ['http://127.0.0.1:{}', 'http://127.0.0.1:{}/', 'http://127.0.0.1:{}/']}}",
        free_port(),
        liar.port,
        registry.port
    );
    let other = Castoff::new().with("CASTOFF_REGISTRIES_MIRRORS", mirrors);
    let seen = other.call(&["image.inspect", "docker://registry.castoff.invalid/group/noise:1"]);
    assert!(seen["names"][0].as_str().unwrap().starts_with("registry.castoff.invalid/"), "{seen}");
    assert!(liar.blobs().iter().any(|asked| asked["bytes"].as_u64().unwrap() > 100_000));
    assert_store_is_whole(&other);
}

#[test]
fn an_index_gives_the_platform_that_is_asked_for_or_lists_what_there_is() {
    let castoff = Castoff::new();
    let folder = castoff.scratch();
    let registry = Server::registry(&folder.join("registry"), "");
    std::fs::create_dir_all(folder.join("vm/images")).unwrap();
    let mut manifests = Vec::new();
    for architecture in ["amd64", "arm64"] {
        std::fs::write(folder.join("vm/images/base"), architecture).unwrap();
        let there = registry.name(&format!("vm:{architecture}"));
        castoff.call(&["forest.push", "base", &there, "dir=vm", &format!("platform=linux/{architecture}")]);
        let raw = skopeo(&["inspect", "--raw", &there]);
        manifests.push(serde_json::json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest_of(&there), "size": raw.len(),
            "platform": {"os": "linux", "architecture": architecture}}));
    }
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests}).to_string();
    let url = format!("http://127.0.0.1:{}/v2/vm/manifests/1", registry.port);
    succeed(program("curl").args([
        "-sSf",
        "-X",
        "PUT",
        "-H",
        &format!("Content-Type: {media_type}"),
        "--data-binary",
        &index,
        &url,
    ]));
    let proxy = Server::before(&registry, folder, &[]);
    let there = proxy.name("vm:1");
    let other = Castoff::new();
    for (platform, content) in [("linux/arm64", "arm64"), ("amd64", "amd64")] {
        other.call(&["forest.pull", &there, &format!("platform={platform}")]);
        assert_eq!(std::fs::read_to_string(other.scratch().join("_data/images/base")).unwrap(), content);
    }
    let gets = proxy.asked().iter().filter(|asked| asked["method"] == "GET").count();
    other.call(&["forest.pull", &there, "platform=linux/arm64"]);
    let pings = proxy.asked().iter().filter(|asked| asked["method"] == "GET").count() - gets;
    assert_eq!(pings, 1, "an image that is here costs `/v2/` and one HEAD");
    let error = other.fail(["call", "--retcode-passthrough", "forest.pull", &there, "platform=linux/s390x"], 66);
    assert!(error.contains("there are `linux/amd64`, `linux/arm64`"), "{error}");
    let single = other
        .fail(["call", "--retcode-passthrough", "forest.pull", &proxy.name("vm:arm64"), "platform=linux/s390x"], 66);
    assert!(single.contains("there is `linux/arm64`"), "{single}");
}
