//! Image configurations keep what nobody changed byte for byte; changes mean what Docker says they mean.

use castoff::error::{Kind, Result};
use castoff::oci::{HistoryEntry, ImageConfig, Platform};
use castoff::vocab::{DiffId, Digest};

use crate::images::expect_error;

/// Odd on purpose: escapes, numbers and spaces that no encoder would write again, members nobody knows.
const ODD: &str = r#"{ "x-unknown" : {"b":1e2,"a":[ 1.0 , "\u0041\/" ]},
 "config":{"Labels":{"z":"\u003cb\u003e","a":"1"},"Healthcheck":{"Test":["CMD","x"],"Interval":1.5e10},"ArgsEscaped":true,
 "Env":["PATH=/bin","X=1"],"Cmd":["old"],"Shell":null,"OnBuild":null},
 "created":"2001-02-03T04:05:06.000000007Z","architecture":"arm","variant":"v7","os":"linux",
 "rootfs":{"type":"layers","diff_ids":["sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"],"own": 1},
 "history":[{"created_by":"a \u0026 b","extra": 1},{"created_by":"c","empty_layer":true}] ,"docker_version":""}"#;

fn changed(changes: &[&str]) -> Result<serde_json::Value> {
    let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
    let config = ImageConfig::parse(ODD.as_bytes())?.with_changes(&changes)?;
    Ok(serde_json::from_slice::<serde_json::Value>(config.bytes()).unwrap()["config"].clone())
}

#[test]
fn unchanged_configuration_keeps_its_bytes_and_its_digest() {
    let config = ImageConfig::parse(ODD.as_bytes()).unwrap();
    assert_eq!(config.bytes(), ODD.as_bytes());
    assert_eq!(config.with_changes(&[]).unwrap().digest(), Digest::of(ODD.as_bytes()));
    assert_eq!(config.platform().to_string(), "linux/arm/v7");
    assert_eq!(config.created(), Some("2001-02-03T04:05:06.000000007Z"));
    assert_eq!(config.history().iter().map(HistoryEntry::is_empty_layer).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn other_layers_change_nothing_else() {
    let id = DiffId(Digest::of(b"layer"));
    let config = ImageConfig::parse(ODD.as_bytes()).unwrap();
    let mut history = vec![config.history()[0].clone()];
    history.push(HistoryEntry::new(Some("2020-01-01T00:00:00Z"), "castoff", "packed").unwrap());
    let packed = config.with_layers(&[id], &history).unwrap();
    for name in ["x-unknown", "config", "created", "architecture", "variant", "os", "docker_version"] {
        assert_eq!(packed.member(name), config.member(name), "{name}");
        assert!(ODD.contains(packed.member(name).unwrap()), "{name} is not what was written");
    }
    assert_eq!(packed.diff_ids(), [id]);
    let text = std::str::from_utf8(packed.bytes()).unwrap();
    assert!(text.contains(r#""own":1"#) && text.contains(r#"{"created_by":"a \u0026 b","extra": 1}"#), "{text}");
    let order: Vec<usize> = ["x-unknown", "\"config\"", "\"created\"", "rootfs", "history", "docker_version"]
        .map(|name| text.find(name).unwrap())
        .to_vec();
    assert!(order.is_sorted(), "{text}");
}

#[test]
fn changes_touch_only_their_members() {
    let raw = |changes: &[&str]| {
        let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
        let config = ImageConfig::parse(ODD.as_bytes()).unwrap().with_changes(&changes).unwrap();
        config.member("config").unwrap().to_owned()
    };
    let text = raw(&["USER nobody", "LABEL new=1"]);
    assert!(text.contains(r#""Healthcheck":{"Test":["CMD","x"],"Interval":1.5e10},"ArgsEscaped":true"#), "{text}");
    assert!(text.contains(r#""Labels":{"z":"\u003cb\u003e","a":"1","new":"1"}"#), "{text}");
    assert!(text.ends_with(r#","User":"nobody"}"#), "{text}");
}

#[test]
fn instructions_mean_what_docker_says() {
    let cases: &[(&[&str], &str, &str)] = &[
        (&[r#"CMD ["a","b c"]"#], "Cmd", r#"["a","b c"]"#),
        (&["cmd echo $X 'y'"], "Cmd", r#"["/bin/sh","-c","echo $X 'y'"]"#),
        (&["CMD [ -f /x ] && y"], "Cmd", r#"["/bin/sh","-c","[ -f /x ] && y"]"#),
        (&[r#"ENTRYPOINT ["/init"]"#], "Cmd", "null"),
        (&["CMD x", r#"ENTRYPOINT ["/init"]"#], "Cmd", r#"["/bin/sh","-c","x"]"#),
        (&["ENV A=1 B=\"two words\" C=th\\ ree X=2"], "Env", r#"["PATH=/bin","X=2","A=1","B=two words","C=th ree"]"#),
        (&["ENV A b  c "], "Env", r#"["PATH=/bin","X=1","A=b  c"]"#),
        (
            &["ENV P=$PATH:/x Q=${X}y R=${N:-d$X} S='$X' T=\\$X U=${X:+set} V=\"$X\""],
            "Env",
            r#"["PATH=/bin","X=1","P=/bin:/x","Q=1y","R=d1","S=$X","T=$X","U=set","V=1"]"#,
        ),
        (&["ENV A=1", "ENV B=$A"], "Env", r#"["PATH=/bin","X=1","A=1","B=1"]"#),
        (
            &["EXPOSE 80 53/UDP 8000-8002"],
            "ExposedPorts",
            r#"{"80/tcp":{},"53/udp":{},"8000/tcp":{},"8001/tcp":{},"8002/tcp":{}}"#,
        ),
        (&["LABEL z=2 \"a b\"=\"c d\""], "Labels", r#"{"z":"2","a":"1","a b":"c d"}"#),
        (&["USER 1:2"], "User", r#""1:2""#),
        (&["VOLUME /a /b", r#"VOLUME ["/c d"]"#], "Volumes", r#"{"/a":{},"/b":{},"/c d":{}}"#),
        (&["WORKDIR a", "WORKDIR ../b/./$X"], "WorkingDir", r#""/b/1""#),
        (&["STOPSIGNAL SIGRTMIN+3"], "StopSignal", r#""SIGRTMIN+3""#),
        (&["ONBUILD RUN x", "ONBUILD COPY a b"], "OnBuild", r#"["RUN x","COPY a b"]"#),
        (&["HEALTHCHECK NONE"], "Healthcheck", r#"{"Test":["NONE"]}"#),
        (
            &["HEALTHCHECK --interval=1m30s --retries=3 CMD curl x"],
            "Healthcheck",
            r#"{"Test":["CMD-SHELL","curl x"],"Interval":90000000000,"Retries":3}"#,
        ),
        (&[r#"HEALTHCHECK --timeout=1.5s CMD ["a"]"#], "Healthcheck", r#"{"Test":["CMD","a"],"Timeout":1500000000}"#),
    ];
    for (changes, member, wanted) in cases {
        let wanted: serde_json::Value = serde_json::from_str(wanted).unwrap();
        assert_eq!(changed(changes).unwrap()[member], wanted, "{changes:?}");
    }
}

#[test]
fn wrong_changes_are_named() {
    for (change, words) in [
        ("COPY a b", "known instructions"),
        ("CMB x", "did you mean `CMD`"),
        ("CMD", "says nothing"),
        ("CMD [1]", "not text"),
        ("ENV A", "a name and a value"),
        ("ENV A=1 B", "`B` has no `=`"),
        ("ENV A='x", "not closed"),
        ("ENV A=${X", "not closed"),
        ("ENV A=${X:?y}", "modifier"),
        ("EXPOSE 70000", "70000"),
        ("EXPOSE 9-8", "ends before"),
        ("USER a b", "one word"),
        ("STOPSIGNAL 99x", "one signal"),
        ("ONBUILD FROM x", "FROM"),
        ("HEALTHCHECK --every=1s CMD x", "--every"),
        ("HEALTHCHECK --interval=5 CMD x", "duration"),
        ("HEALTHCHECK", "says nothing"),
    ] {
        let error = expect_error(changed(&["USER x", change]), Kind::Usage, &[words]);
        assert!(error.message().contains(change), "{error}");
    }
    let odd = ImageConfig::parse(br#"{"rootfs":{},"config":{"Env":5}}"#).unwrap();
    expect_error(odd.with_changes(&["ENV a=b".to_owned()]), Kind::Corrupt, &["`Env`"]);
}

#[test]
fn default_configuration_is_what_engines_expect() {
    let config = ImageConfig::default_for(&Platform::linux("amd64"), "2020-01-01T00:00:00Z", true).unwrap();
    assert_eq!(
        std::str::from_utf8(config.bytes()).unwrap(),
        r#"{"created":"2020-01-01T00:00:00Z","architecture":"amd64","os":"linux","config":{"Cmd":["/sbin/init"]},"rootfs":{"type":"layers","diff_ids":[]},"history":[]}"#
    );
    let config = ImageConfig::default_for(&Platform::linux("amd64"), "2020-01-01T00:00:00Z", false).unwrap();
    assert_eq!(config.member("config"), Some("{}"));
}
