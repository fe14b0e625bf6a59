//! What a forest looks like: the two images that lvh shows.

/// An `images.json` as Go writes it, four spaces a level; no line end at its end.
pub const EXAMPLE: &str = r#"[
    {
        "name": "base.img",
        "packages": [
            "less",
            "vim",
            "sudo",
            "openssh-server",
            "curl"
        ],
        "actions": [
            {
                "comment": "disable password for root",
                "op": {
                    "Cmd": "passwd -d root"
                },
                "type": "run-command"
            }
        ]
    },
    {
        "name": "k8s.qcow2",
        "parent": "base.img",
        "packages": [
            "docker.io"
        ]
    }
]"#;
