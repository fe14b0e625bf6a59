# The castoff package and its configuration file, from pillar `castoff` (see pillar/castoff.sls).
{%- set settings = salt['pillar.get']('castoff', {}) %}
{%- set package = settings.get('package') %}

{%- if package %}
{%- set fetched = not package.startswith('/') %}
{%- set file = '/var/cache/castoff/castoff.deb' if fetched else package %}
{%- if fetched %}
# Salt vouches for what its own file server gives; anything else must have the hash that the pillar says.
castoff-package-file:
  file.managed:
    - name: {{ file }}
    - source: {{ package | json }}
{%- if settings.get('package_hash') %}
    - source_hash: {{ settings.package_hash | json }}
{%- endif %}
    - makedirs: True
    - mode: '0600'
    - require_in:
      - pkg: castoff-package
{%- endif %}

castoff-package:
  pkg.installed:
    - sources:
      - castoff: {{ file | json }}
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

{%- for name, wanted in settings.get('settings', {}) | dictsort %}

castoff-settings-{{ name }}:
  castoff.settings_present:
    - name: {{ name | json }}
    - settings: {{ wanted | json }}
    - require:
      - file: castoff-configuration
{%- endfor %}
