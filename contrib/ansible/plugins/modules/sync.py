#!/usr/bin/python
"""Images of a host that follow what is released."""

from __future__ import annotations

DOCUMENTATION = r"""
module: sync
short_description: Bring a host's images to what is released
description:
  - Runs on the host that follows releases, which its castoff is configured for (C(sync.source) and others).
  - Fetches the signed manifest of each image, moves as few bytes as there is a way for, verifies, and swaps whole trees.
extends_documentation_fragment:
  - castoff.castoff.conn
options:
  images:
    description:
      - C(IMAGE/FLAVOUR), or C(IMAGE) in every flavour. Without any, all that the host follows.
      - With every O(state) but V(current) exactly one.
    type: list
    elements: str
    default: []
  state:
    description:
      - With V(current) the host has what is served, or what it is pinned to.
      - With V(pinned) the host is held at O(version), and has it if it is kept or served.
      - With V(followed) the host is not held at any release; what it has stays until the next V(current).
      - With V(rolled_back) the host has O(version), one it has kept, and is held there.
    type: str
    choices: [current, pinned, followed, rolled_back]
    default: current
  version:
    description: The number of a release, for V(pinned) and V(rolled_back).
    type: int
attributes:
  check_mode:
    description: The manifests are fetched and judged, nothing else.
    support: full
  diff_mode:
    description: Shows the releases before and after.
    support: full
author:
  - castoff developers (@castoff)
"""

EXAMPLES = r"""
- name: Everything this host follows
  castoff.castoff.sync:

- name: Hold a host at a release
  castoff.castoff.sync:
    images: [makina-states-trusty/lxc]
    state: pinned
    version: 25
"""

RETURN = r"""
images:
  description: What castoff's function returned of each image.
  returned: success
  type: dict
kind:
  description: The kind of failure, as in the table of exit codes of castoff.
  returned: failure
  type: str
hint:
  description: What to do next.
  returned: failure
  type: str
causes:
  description: Why, one cause after another.
  returned: failure
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.castoff.castoff.plugins.module_utils import client


def state_of(castoff, images):
    """What is current and held of each image."""
    status = castoff.call("sync.status", named={"images": images} if images else {}).value
    return {image: {"current": one["current"], "pin": one["pin"]} for image, one in status.items()}


def current(castoff, params, check):
    """Has what is served; the report of each image, and which would change."""
    named = {"images": params["images"], "test": check} if params["images"] else {"test": check}
    images = castoff.call("sync.run", named=named).value["images"]
    wrong = ["%s: %s" % (image, one["why"]) for image, one in sorted(images.items()) if one["result"] is False]
    if wrong:
        raise client.CastoffError("failed", "not all images are what is served: " + "; ".join(wrong))
    return images, [image for image, one in images.items() if one["result"] is None]


def changed_by(function):
    """One of the functions that work on one image."""
    def work(castoff, params, check):
        image = params["images"][0]
        named = {"image": image, "test": check}
        if params["version"] is not None and function != "sync.unpin":
            named["number"] = params["version"]
        report = castoff.call(function, named=named).value
        return {image: report}, [image] if report["result"] is None else []
    return work


STATES = {"current": current, "pinned": changed_by("sync.pin"), "followed": changed_by("sync.unpin"),
          "rolled_back": changed_by("sync.rollback")}


def as_yaml(states):
    """The few lines that a diff compares."""
    def line(image, one):
        held = " (held at %s)" % one["pin"] if one["pin"] else ""
        return "%s: %s%s\n" % (image, one["current"] if one["current"] else "none", held)
    return "".join(line(image, one) for image, one in sorted(states.items()))


def main():
    spec = dict(
        client.ARGUMENTS,
        images={"type": "list", "elements": "str", "default": []},
        state={"type": "str", "choices": ["current", "pinned", "followed", "rolled_back"], "default": "current"},
        version={"type": "int"},
    )
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True,
                           required_if=[("state", "pinned", ("version",)), ("state", "rolled_back", ("version",))])
    params = module.params
    if params["state"] != "current" and len(params["images"]) != 1:
        module.fail_json(msg="with `state: %s` exactly one image is needed in `images`" % params["state"], kind="usage")
    try:
        castoff = client.connect(params, module.warn)
        before = state_of(castoff, params["images"])
        images, due = STATES[params["state"]](castoff, params, module.check_mode)
        after = state_of(castoff, params["images"])
    except client.CastoffError as error:
        module.fail_json(msg=error.text(), **error.facts())
    told = after
    if module.check_mode:
        told = {image: dict(one, current="what is served") if image in due else one for image, one in after.items()}
    module.exit_json(changed=bool(due) if module.check_mode else after != before, images=images,
                     diff={"before": as_yaml(before), "after": as_yaml(told)})


if __name__ == "__main__":
    main()
