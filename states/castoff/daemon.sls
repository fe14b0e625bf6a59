# castoff's daemon, where systemd runs; it takes a changed configuration without a restart.
include:
  - castoff.install

{%- set settings = salt['pillar.get']('castoff', {}) %}

{%- if salt['file.directory_exists']('/run/systemd/system') %}
castoff-daemon:
  service.running:
    - name: castoff.service
    - enable: True
    - reload: True
    - watch:
      - file: castoff-configuration
{%- for name in settings.get('settings', {}) | sort %}
      - castoff: castoff-settings-{{ name }}
{%- endfor %}
{%- else %}
castoff-daemon-has-no-systemd-here:
  test.nop: []
{%- endif %}
