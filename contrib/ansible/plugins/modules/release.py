#!/usr/bin/python
"""Releases of images: announced, gone back to an older one, taken back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release
short_description: Release images of LXC containers
description:
  - Archives LXC containers, uploads the archives, and announces them signed in a git repository.
  - Runs where the containers are. What an earlier run has done is not done again, so that a task that was cut off is
    finished by the same task.
extends_documentation_fragment:
  - castoff.castoff.conn
options:
  name:
    description: The image, one of C(lxc.images) in the settings.
    type: str
    required: true
  flavors:
    description:
      - Its flavours. Without any, with V(released) and V(current) all that the settings list.
      - With V(rolled_back) and V(withdrawn) exactly one.
    type: list
    elements: str
    default: []
  state:
    description:
      - With V(released) something is announced of each flavour. What is announced already is left alone.
      - With V(current) what the container holds now is announced. A tree that is announced already is not released
        again; to find that out it is read whole.
      - With V(rolled_back) what O(version) holds is announced, as a new release.
      - With V(withdrawn) O(version) is announced no longer.
    type: str
    choices: [released, current, rolled_back, withdrawn]
    default: released
  version:
    description: The number of a release, for V(rolled_back) and V(withdrawn).
    type: int
  sync:
    description: Bring the image's container to the state of its C(builder_ref) first.
    type: bool
    default: true
  allow:
    description:
      - What may be released although it is of one machine, as C(host-keys), C(machine-id), C(authorized-keys),
        C(salt-keys), C(new-privileged), C(left-out), each alone or as C(KIND:PATTERN).
    type: list
    elements: str
    default: []
  live:
    description: Accept a container that is running.
    type: bool
    default: false
attributes:
  check_mode:
    description: Says what is announced and what would be; whether the tree differs is not found out.
    support: partial
  diff_mode:
    description: Shows the releases before and after.
    support: full
author:
  - castoff developers (@castoff)
"""

EXAMPLES = r"""
- name: What the container holds is what hosts get
  castoff.castoff.release:
    name: makina-states-trusty
    flavors: [lxc]
    state: current

- name: Back to what release 25 held
  castoff.castoff.release:
    name: makina-states-trusty
    flavors: [lxc]
    state: rolled_back
    version: 25
"""

RETURN = r"""
versions:
  description: The release of each flavour that is announced now.
  returned: success
  type: dict
  sample: {"lxc": 26}
report:
  description: What castoff's function returned.
  returned: when one ran
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


def served(castoff, image, flavor):
    """Number and digest of what is announced; none where nothing is."""
    status = castoff.call("release.status", named={"image": image, "flavor": flavor}).value
    return status[image][flavor]["served"]


def flavors_of(castoff, params):
    """The flavours that are asked for, else those of the settings."""
    if params["flavors"]:
        return params["flavors"]
    image = castoff.settings()["lxc"]["images"].get(params["name"])
    if image is None:
        raise client.CastoffError("not-found", "the settings have no image `%s`" % params["name"])
    return [str(flavor) for flavor in image["flavors"]]


def numbers(served_by_flavor):
    return {flavor: one and one["version"] for flavor, one in served_by_flavor.items()}


def release(castoff, params, flavors, before, check):
    """Announces what the container holds; the report, if a function had to be called."""
    if params["state"] == "released":
        flavors = [flavor for flavor in flavors if before[flavor] is None]
    if not flavors:
        return None
    named = {"images": [params["name"]], "flavors": flavors, "test": check}
    named.update({name: params[name] for name in ("sync", "allow", "live") if params[name] is not None})
    report = castoff.call("mc_cloud_images.sf_release", named=named).value
    told = report["rets"][params["name"]]
    wrong = [told[key] for key in ("trace", "skipped") if told.get(key)]
    wrong += [flavor + ": " + one["trace"] for flavor, one in sorted(told["flavors"].items()) if one["result"] is False]
    if wrong:
        raise client.CastoffError("failed", "%s is not released: %s" % (params["name"], "; ".join(wrong)))
    return report


def back(castoff, params, flavor, before, check):
    """Announces what an older release holds."""
    old = next((one for one in castoff.call("release.history", named={
        "image": params["name"], "flavor": flavor, "limit": 1000000}).value["released"]
        if one["version"] == params["version"]), None)
    if old is None:
        raise client.CastoffError("not-found", "release %s was never announced" % params["version"])
    if before and before["files"][0]["sha256"] == old["files"][0]["sha256"]:
        return None
    named = {"image": params["name"], "flavor": flavor, "version": params["version"], "test": check}
    return castoff.call("release.rollback", named=named).value


def withdrawn(castoff, params, flavor, before, check):
    """Announces a release no longer."""
    if not before or before["version"] != params["version"]:
        return None
    named = {"image": params["name"], "flavor": flavor, "version": params["version"], "test": check}
    return castoff.call("release.withdraw", named=named).value


def as_yaml(image, versions):
    """The few lines that a diff compares."""
    lines = ["%s/%s: %s" % (image, flavor, number if number else "none") for flavor, number in sorted(versions.items())]
    return "\n".join(lines) + "\n"


def work(castoff, params, check):
    """What the task's result says."""
    flavors = flavors_of(castoff, params)
    before = {flavor: served(castoff, params["name"], flavor) for flavor in flavors}
    if params["state"] in ("released", "current"):
        report = release(castoff, params, flavors, before, check)
    else:
        one = {"rolled_back": back, "withdrawn": withdrawn}[params["state"]]
        report = one(castoff, params, flavors[0], before[flavors[0]], check)
    if check:
        changed, after = report is not None, numbers(before)
        if changed:
            after = dict.fromkeys(after, "the next release" if params["state"] != "withdrawn" else None)
    else:
        after = numbers({flavor: served(castoff, params["name"], flavor) for flavor in flavors})
        changed = after != numbers(before)
    told = {"changed": changed, "versions": after,
            "diff": {"before": as_yaml(params["name"], numbers(before)), "after": as_yaml(params["name"], after)}}
    if report is not None:
        told["report"] = report
    return told


def main():
    spec = dict(
        client.ARGUMENTS,
        name={"type": "str", "required": True},
        flavors={"type": "list", "elements": "str", "default": []},
        state={"type": "str", "choices": ["released", "current", "rolled_back", "withdrawn"], "default": "released"},
        version={"type": "int"},
        sync={"type": "bool", "default": True},
        allow={"type": "list", "elements": "str", "default": []},
        live={"type": "bool", "default": False},
    )
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True,
                           required_if=[("state", "rolled_back", ("version",)), ("state", "withdrawn", ("version",))])
    params = module.params
    if params["state"] in ("rolled_back", "withdrawn") and len(params["flavors"]) != 1:
        module.fail_json(msg="with `state: %s` exactly one flavour is needed in `flavors`" % params["state"], kind="usage")
    try:
        result = work(client.connect(params, module.warn), params, module.check_mode)
    except client.CastoffError as error:
        module.fail_json(msg=error.text(), **error.facts())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
