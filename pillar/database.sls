# The image database: which images there are, and who may see them. A sample that castoff reads as it is:
#
#     castoff pillar --pillar-root "$PWD/pillar" --minion-id controller.example.net -- web-1.example.net
#
# This file is Jinja first, then YAML. Templates see `opts` (the configuration key `settings`), `grains`, and files below
# this folder. database.yaml or database.json would do as well; of several the first of .sls, .yaml, .json is read.
{%- set domain = 'example.net' %}
{%- macro host(name) -%} {{ name }}.{{ domain }} {%- endmacro %}

# How image data are read; a whole number, the only top-level value that is no map or list.
format: 1

cloud_settings:
  # `root` is where the version files lie (ROOT/versions/IMAGE-FLAVOR_version.txt and .md5), see makina-states/ here.
  cloud:
    root: {{ opts.get('images_root', '/srv/makina-states') | json }}

  # What every member of the cloud gets, over castoff's defaults.
  images:
    sftp_user: releases
    lxc:
      default: makina-states-trusty
      cron_hour: "4"
      images:
        # Released: version and checksum come from the version files, the rest from them.
        makina-states-trusty: {}
        # One flavour only, from another place; {img}, {flavor} and {ver} are filled in.
        acme-base:
          flavors: [lxc]
          lxc_url: "https://images.{{ domain }}/{img}/{img}-{flavor}-{ver}.tar.xz"
        # Not released yet: no version file, so no version, checksum or URL.
        acme-next:
          builder_ref: acme-next-build.{{ domain }}

  # Over that, what only the controller's own computation says (`images_ID OF THE CONTROLLER`) ...
  images_{{ host('controller') }}:
    git_url: ssh://git.{{ domain }}/images

  # ... and what a single member gets (`images_ITS ID`).
  images_{{ host('node-2') }}:
    lxc:
      cron_minute: "37"

# Virtual machines: kind, then compute node, then its machines as a list, a map or nothing. Only lxc, kvm and docker count.
vms:
  lxc:
    {{ host('node-1') }}:
{%- for number in range(1, 4) %}
      - {{ host('web-' ~ number) }}
{%- endfor %}
    {{ host('node-2') }}:
      {{ host('db-1') }}: {}
  kvm:
    {{ host('node-2') }}:
      - {{ host('build-1') }}
      - {{ host('legacy-1') }}

# Hosts that belong to the cloud without machines on them.
baremetal_hosts:
  - {{ host('node-1') }}
  - {{ host('node-2') }}
  - {{ host('spare-1') }}

# Not ours any more: a host, a machine, and with a host all its machines.
non_managed_hosts:
  - {{ host('legacy-1') }}

# Controllers, besides the host that computes; `default` is inherited.
configurations:
  default:
    cloud_master: false
  {{ host('standby') }}:
    cloud_master: true
