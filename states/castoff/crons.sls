# The nightly `mc_lxc.sync_images` of a controller, at the image settings' `cron_hour` and `cron_minute` where `cron_sync` is
# true. Pillar `castoff:crons` says who runs it: `daemon` (the default) its own schedule, `cron` a file in /etc/cron.d.
# Neither runs it twice. Replaces makina-states' cloud/lxc/controller/crons.sls, whose file Debian's cron never read: its
# name has a dot, its line no user. Needs castoff's modules: `salt-call saltutil.sync_all`.
{%- set settings = salt['pillar.get']('castoff', {}) %}
{%- set by = settings.get('crons', 'daemon') %}
{%- set folder = settings.get('config_file', '/etc/castoff/castoff.yaml') | replace('.yaml', '.d') %}
{%- set file = settings.get('cron_file', '/etc/cron.d/castoff-sync-images') %}
{%- set castoff = settings.get('executable', '/usr/bin/castoff') %}

include:
  - castoff.daemon

castoff-crons-of-makina-states:
  file.absent:
    - name: /etc/cron.d/makinastates_cloud_lxc_imgcron.presentsync

{%- if by == 'cron' %}
{%- set lxc = salt['mc_cloud_images.settings']().lxc %}

castoff-crons-daemon:
  file.managed:
    - name: {{ (folder ~ '/60-crons.yaml') | json }}
    - mode: '0644'
    - makedirs: True
    - contents: |
        # cron runs it: states/castoff/crons.sls
        schedule.sync_images: false
    - watch_in:
      - test: castoff-crons-changed

castoff-crons-file:
{%- if lxc.cron_sync %}
  file.managed:
    - name: {{ file | json }}
    - user: root
    - group: root
    - mode: '0644'
    # What it says is mailed by cron, and it says nothing where all went well.
    - contents: |
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
        {{ lxc.cron_minute }} {{ lxc.cron_hour }} * * * root said=$({{ castoff }} call mc_lxc.sync_images 2>&1) || echo "$said"
{%- else %}
  file.absent:
    - name: {{ file | json }}
{%- endif %}
    - require:
      - file: castoff-crons-daemon

{%- elif by == 'daemon' %}

castoff-crons-file:
  file.absent:
    - name: {{ file | json }}

castoff-crons-daemon:
  file.absent:
    - name: {{ (folder ~ '/60-crons.yaml') | json }}
    - require:
      - file: castoff-crons-file
    - watch_in:
      - test: castoff-crons-changed

{%- else %}

castoff-crons-file:
  test.configurable_test_state:
    - name: castoff:crons
    - result: False
    - changes: False
    - comment: {{ ("pillar castoff:crons is `" ~ by ~ "`; it may be daemon or cron") | json }}
{%- endif %}

{%- if by in ('cron', 'daemon') %}

castoff-crons-changed:
  test.nop: []
{%- if salt['file.directory_exists']('/run/systemd/system') %}
    - watch_in:
      - service: castoff-daemon
{%- endif %}
{%- endif %}
