"""The images as an inventory."""

from __future__ import annotations

DOCUMENTATION = r"""
name: images
short_description: The images that castoff knows as an inventory
description:
  - Makes one host of each image in castoff's settings, with the image's settings as variables.
  - The configuration file is named C(castoff.yml) or C(cloudimg.yml), or something before that, also with C(.yaml).
extends_documentation_fragment:
  - castoff.castoff.conn
  - ansible.builtin.constructed
options:
  plugin:
    description: Names this plugin.
    type: str
    required: true
    choices: [castoff.castoff.images]
  minion:
    description: Whose settings are read; without it those of the machine that castoff runs on.
    type: str
  group:
    description: The group all hosts are in.
    type: str
    default: castoff_images
author:
  - castoff developers (@castoff)
"""

EXAMPLES = r"""
# castoff.yml
plugin: castoff.castoff.images
minion: controller.example.net
compose:
  ansible_host: castoff_image.builder_ref
groups:
  released: castoff_released
keyed_groups:
  - key: castoff_released_flavors
    prefix: flavor
"""

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Constructable
from ansible_collections.castoff.castoff.plugins.module_utils import client

TYPES = ("lxc", "kvm")
NAMES = ("castoff.yml", "castoff.yaml", "cloudimg.yml", "cloudimg.yaml")


class InventoryModule(BaseInventoryPlugin, Constructable):
    """Loaded by Ansible."""

    NAME = "castoff.castoff.images"

    def verify_file(self, path):
        return super().verify_file(path) and path.endswith(NAMES)

    def parse(self, inventory, loader, path, cache=True):
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        options = {name: self.get_option(name) for name in client.ARGUMENTS}
        try:
            settings = client.connect(options, self.display.warning).settings(self.get_option("minion"))
        except client.CastoffError as error:
            raise AnsibleParserError(error.text()) from None
        group = inventory.add_group(self.get_option("group"))
        for kind in TYPES:
            for image, found in (settings.get(kind, {}).get("images") or {}).items():
                self.add(group, kind, image, found or {})

    def add(self, group, kind, image, settings):
        """Adds one image."""
        host = self.inventory.add_host(image, group)
        released = [flavor for flavor in settings.get("flavors") or [] if flavor + "_tarball_ver" in settings]
        facts = {"castoff_type": kind, "castoff_image": settings,
                 "castoff_released": bool(released), "castoff_released_flavors": released}
        for name, value in facts.items():
            self.inventory.set_variable(host, name, value)
        strict = self.get_option("strict")
        self._set_composite_vars(self.get_option("compose"), facts, host, strict)
        self._add_host_to_composed_groups(self.get_option("groups"), facts, host, strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), facts, host, strict)
