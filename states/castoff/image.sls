# One image for each item of pillar `castoff:images`, made from a root filesystem on the minion with every ACL. An image
# that is there is left alone unless `follow` is true. Needs castoff's state module: `salt-call saltutil.sync_all`.
{%- set settings = salt['pillar.get']('castoff', {}) %}

{%- for image, wanted in settings.get('images', {}) | dictsort %}
castoff-image-{{ image }}:
  castoff_image.packed:
    - name: {{ image | json }}
    - source: {{ (wanted.source if wanted.source is defined else 'dir:' ~ wanted.rootfs) | json }}
{%- for option, value in wanted | dictsort if option not in ('rootfs', 'source') %}
    - {{ option }}: {{ value | json }}
{%- endfor %}
{%- endfor %}

{%- if not settings.get('images') %}
castoff-has-no-images-to-make:
  test.nop: []
{%- endif %}
