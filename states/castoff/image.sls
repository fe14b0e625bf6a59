# One image for each item of pillar `castoff:images`, made from a root filesystem on the minion with every ACL. An image
# that is there is left alone: remove its name to have it made again.
{%- set settings = salt['pillar.get']('castoff', {}) %}
{%- set castoff = settings.get('binary', 'castoff') %}

{%- for image, wanted in settings.get('images', {}) | dictsort %}
{%- set changes = wanted.get('changes', []) | json %}
castoff-image-{{ image }}:
  cmd.run:
    - name: >-
        {{ castoff | quote }} call --out=json mc_cloud_images.build_docker_from_rootfs
        {{ ('image=' ~ image) | quote }} {{ ('rootfs=' ~ wanted.rootfs) | quote }} {{ ('changes=' ~ changes) | quote }}
    - unless: {{ castoff | quote }} call image.inspect {{ ('image=' ~ image) | quote }}
{%- endfor %}

{%- if not settings.get('images') %}
castoff-has-no-images-to-make:
  test.nop: []
{%- endif %}
