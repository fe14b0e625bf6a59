# What the states in states/castoff read; a sample that renders as it is.
castoff:
  # The package that castoff.install installs: a salt:// or http(s):// address, or a path on the minion.
  # `make deb` makes it. Without it the binary is expected on the minion already.
  #package: salt://castoff/castoff_0.1.0_amd64.deb
  # What an http(s):// package must be: `sha256sum` tells it.
  #package_hash: sha256=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08

  # The content of /etc/castoff/castoff.yaml; `castoff config` on the minion shows every value and where it came from.
  config:
    engine: auto
    store:
      keep: 2

  # Image settings that win over all others, by the name of the file in /etc/castoff/castoff.d that holds them.
  settings: {}
  #  50-no-cron:
  #    lxc:
  #      cron_sync: False

  # Images that castoff.image makes on the minion, by name; `rootfs` or `source`, and any argument of image.pack.
  images: {}
  #  store:castoff/demo:
  #    rootfs: /var/lib/lxc/demo/rootfs
  #    changes:
  #      - CMD ["/sbin/init"]

  # Who runs the nightly mc_lxc.sync_images of a controller, where the image settings' `cron_sync` is true: `daemon`, or `cron`
  # with a file in /etc/cron.d. Read by castoff.crons.
  #crons: daemon
