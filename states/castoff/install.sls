# The castoff package and its configuration file, from pillar `castoff` (see pillar/castoff.sls).
{%- set settings = salt['pillar.get']('castoff', {}) %}

{%- if settings.get('package') %}
castoff-package:
  pkg.installed:
    - sources:
      - castoff: {{ settings.package | json }}
    - require_in:
      - file: castoff-configuration
{%- endif %}

castoff-configuration:
  file.serialize:
    - name: {{ settings.get('config_file', '/etc/castoff/castoff.yaml') | json }}
    - dataset: {{ settings.get('config', {}) | json }}
    - serializer: yaml
    - makedirs: True
    - mode: '0644'
