"""Image settings at template time."""

from __future__ import annotations

DOCUMENTATION = r"""
name: settings
short_description: Image settings of castoff
description:
  - Gives the image settings of minions, as castoff hands them out as pillar.
  - Runs on the controller, and asks castoff each time it is used.
extends_documentation_fragment:
  - castoff.castoff.conn
options:
  _terms:
    description:
      - Minion ids. Without any, the settings of the machine that castoff runs on.
      - A minion that is no member of the cloud has empty settings.
    type: list
    elements: str
  key:
    description:
      - Gives the value at this place instead of all settings. Steps are parted by dots or colons; a step may itself be
        a name with dots.
    type: str
  default:
    description: What to give where O(key) does not exist. Without it, that is an error.
    type: raw
  prefixed:
    description: Wrap the settings in C(makina-states.cloud.images), as they stand in the pillar.
    type: bool
    default: false
author:
  - castoff developers (@castoff)
"""

EXAMPLES = r"""
- name: Where the image of a minion comes from
  ansible.builtin.debug:
    msg: "{{ lookup('castoff.castoff.settings', 'web-1.example.net', key='lxc.images.makina-states-trusty.lxc_url') }}"

- name: A version that may not exist yet
  ansible.builtin.debug:
    msg: "{{ lookup('castoff.castoff.settings', inventory_hostname, key='lxc:images:web:lxc_tarball_ver', default=none) }}"

- name: Settings of several minions
  ansible.builtin.debug:
    var: query('castoff.castoff.settings', 'web-1.example.net', 'web-2.example.net')
"""

RETURN = r"""
_raw:
  description: Settings, or the value at O(key), one item for each minion.
  type: list
  elements: raw
"""

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase
from ansible_collections.castoff.castoff.plugins.module_utils import client

PREFIX = "makina-states.cloud.images"


def find(settings, key):
    """The value at a dotted place, the longest name first; raises KeyError."""
    if key in settings:
        return settings[key]
    for place in range(len(key) - 1, 0, -1):
        below = settings.get(key[:place]) if key[place] in ".:" else None
        if isinstance(below, dict):
            try:
                return find(below, key[place + 1:])
            except KeyError:
                continue
    raise KeyError(key)


class LookupModule(LookupBase):
    """Loaded by Ansible."""

    def run(self, terms, variables=None, **kwargs):
        self.set_options(var_options=variables, direct=kwargs)
        options = {name: self.get_option(name) for name in client.ARGUMENTS}
        try:
            castoff = client.connect(options)
            return [self.one(castoff, minion) for minion in terms or [None]]
        except client.CastoffError as error:
            raise AnsibleError(error.text()) from None

    def one(self, castoff, minion):
        if minion is not None and not isinstance(minion, str):
            raise client.CastoffError("usage", "a minion id is text, not %s" % type(minion).__name__)
        settings = castoff.settings(minion)
        key = self.get_option("key")
        if key:
            try:
                return find(settings, key)
            except KeyError:
                if self.has_default():
                    return self.get_option("default")
                raise client.CastoffError("not-found", "the settings of %s have no `%s`" % (minion or "this machine", key),
                                          "give a `default`, or look at what there is without `key`") from None
        return {PREFIX: settings} if self.get_option("prefixed") else settings

    def has_default(self):
        """Whether the caller gave one, be it none."""
        return self.get_option_and_origin("default")[1] not in (None, "default")
