# What the states in states/castoff read; a sample that renders as it is.
castoff:
  # The package that castoff.install installs: a salt:// or http(s):// address, or a path on the minion.
  # `make deb` makes it. Without it the binary is expected on the minion already.
  #package: salt://castoff/castoff_0.1.0_amd64.deb

  # The content of /etc/castoff/castoff.yaml; `castoff config` on the minion shows every value and where it came from.
  config:
    engine: auto
    store:
      keep: 2

  # Images that castoff.image makes from root filesystems on the minion, by name.
  images: {}
  #  store:castoff/demo:
  #    rootfs: /var/lib/lxc/demo/rootfs
  #    changes:
  #      - CMD ["/sbin/init"]
