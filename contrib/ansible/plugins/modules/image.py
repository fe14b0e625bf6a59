#!/usr/bin/python
"""Images that are there, packed, or gone."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image
short_description: Make, pack and remove container images
description:
  - Makes images of root filesystems and of other images, with every POSIX ACL intact, and removes them.
  - Works on images of castoff's store and of the Docker engine. For archives and layouts as destinations use
    M(castoff.castoff.call) with C(image.pack) or C(image.copy).
extends_documentation_fragment:
  - castoff.castoff.conn
options:
  name:
    description:
      - The image, as C(store:NAME), C(docker-daemon:NAME), or C(NAME) in the engine that castoff is configured for.
    type: str
    required: true
  state:
    description:
      - With V(present) the name exists. If it does not, it is copied from O(source) as it is; a root filesystem becomes
        an image of one layer. What a name that exists holds is not looked at.
      - With V(packed) the image is what packing O(source) gives, each time. The name moves only when the new image is
        whole and another one.
      - With V(absent) the name does not exist.
    type: str
    choices: [present, packed, absent]
    default: present
  source:
    description:
      - Where the content comes from, as C(dir:PATH), C(tar:FILE), C(docker-archive:FILE), C(oci:DIR:TAG), C(store:NAME)
        and so on. Paths are those of the machine castoff runs on, and absolute.
      - Without it, V(packed) packs the image of this O(name) in place, and V(present) only demands it.
    type: str
  acls:
    description: Keep POSIX ACLs. With V(packed) only.
    type: bool
    default: true
  layers:
    description: With V(2) entries that have ACLs are in a second layer. With V(packed) only.
    type: int
    choices: [1, 2]
    default: 1
  keep_base:
    description: An image whose layers stay as they are, only what lies above is packed. With V(packed) only.
    type: str
  changes:
    description: Changes of the configuration as C(docker import) takes them. With V(packed) only.
    type: list
    elements: str
    default: []
  idmap:
    description: How a tree is shifted, as C(u:0:100000:65536,g:0:100000:65536). With V(packed) only.
    type: str
  live:
    description: Read the root filesystem of a running container all the same. With V(packed) only.
    type: bool
    default: false
  compression:
    description: How layers are kept in the store.
    type: str
    choices: [none, gzip, zstd]
  tmpdir:
    description: A folder for what must be unfolded meanwhile.
    type: path
  keep_old:
    description: Keep the image that loses the name, until C(image.gc).
    type: bool
    default: true
attributes:
  check_mode:
    description:
      - For V(packed) the image that is there is compared with O(source), entry by entry. Its configuration is not, so
        that O(changes) that are new are not foreseen.
    support: full
  diff_mode:
    description: Shows the image ID and the layers before and after.
    support: full
author:
  - castoff developers (@castoff)
"""

EXAMPLES = r"""
- name: An image of a root filesystem, one layer, every ACL kept
  castoff.castoff.image:
    name: store:example/web:1
    state: packed
    source: dir:/var/lib/lxc/web/rootfs
    changes:
      - CMD ["/sbin/init"]

- name: Merge the layers of an image of the Docker engine
  castoff.castoff.image:
    name: docker-daemon:example/app:1
    state: packed

- name: Bring an archive into the engine, once
  castoff.castoff.image:
    name: docker-daemon:example/base:3
    source: docker-archive:/srv/images/base-3.tar

- name: Take a name away
  castoff.castoff.image:
    name: store:example/old:1
    state: absent
"""

RETURN = r"""
image_id:
  description: The ID of the image that has the name now.
  returned: when it is known
  type: str
report:
  description: What castoff's function returned.
  returned: when one ran
  type: dict
kind:
  description: The kind of failure, as in the table of exit codes of castoff.
  returned: failure
  type: str
  sample: not-found
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

FILES = ("docker-archive:", "oci:", "oci-archive:", "dir:", "tar:", "docker://")


class Result:
    """What is said about one run: whether it changed anything, and the image before and after."""

    def __init__(self, changed=False, before=None, after=None, report=None, comment=None):
        self.changed, self.before, self.after, self.report, self.comment = changed, before, after, report, comment

    def members(self, name):
        told = {"changed": self.changed}
        if self.after and self.after.get("image_id"):
            told["image_id"] = self.after["image_id"]
        if self.report is not None:
            told["report"] = self.report
        if self.comment:
            told["msg"] = self.comment
        told["diff"] = {"before": as_yaml(name, self.before), "after": as_yaml(name, self.after),
                        "before_header": name, "after_header": name}
        return told


def as_yaml(name, facts):
    """The few lines that a diff compares."""
    lines = ["image: " + name, "state: " + ("present" if facts else "absent")]
    for key, value in (facts or {}).items():
        if isinstance(value, list):
            lines.append(key + ":")
            lines.extend("  - " + item for item in value)
        else:
            lines.append(key + ": " + str(value))
    return "\n".join(lines) + "\n"


def inspect(castoff, name):
    """ID and layers of an image; none if there is none."""
    try:
        found = castoff.call("image.inspect", named={"image": name}).value
    except client.CastoffError as error:
        if error.kind == "not-found":
            return None
        raise
    return {"image_id": found["image_id"], "layers": [layer["diff_id"] for layer in found["layers"]]}


def present(castoff, params, check):
    """The name exists; what it holds is not looked at."""
    before = inspect(castoff, params["name"])
    if before:
        return Result(before=before, after=before)
    if not params["source"]:
        raise client.CastoffError("not-found", "there is no image `%s`" % params["name"],
                                  "`source` says what to make it of")
    named = {"source": params["source"], "destination": params["name"], "test": check,
             "compression": params["compression"], "tmpdir": params["tmpdir"], "keep_old": params["keep_old"]}
    report = castoff.call("image.copy", named=named).value
    return Result(True, None, after_of(report, check), report, report.get("comment"))


def packed(castoff, params, check):
    """The image is what packing the source gives."""
    before = inspect(castoff, params["name"])
    source = params["source"] or params["name"]
    names = ("acls", "layers", "keep_base", "compression", "tmpdir", "keep_old", "idmap", "live")
    named = {name: params[name] for name in names if params[name] is not None}
    named.update(source=source, destination=params["name"], test=check)
    if params["changes"]:
        named["changes"] = params["changes"]
    report = castoff.call("image.pack", named=named).value
    if not check:
        after = after_of(report, check)
        changed = not before or before["image_id"] != after["image_id"]
        return Result(changed, before, after, report)
    same = before is not None and is_packed(castoff, before, source, params)
    comment = "`%s` is packed already" % params["name"] if same else report.get("comment")
    return Result(not same, before, before if same else after_of(report, check), report, comment)


def is_packed(castoff, image, source, params):
    """Whether packing would give the tree and the number of layers that are there; only looks."""
    if params["keep_base"]:
        base = inspect(castoff, params["keep_base"])
        beneath = base["layers"] if base else []
        if image["layers"][:len(beneath)] != beneath:
            return False
        above = len(image["layers"]) - len(beneath)
    else:
        above = len(image["layers"])
    # A tree without ACLs has no second layer.
    if not 1 <= above <= params["layers"]:
        return False
    if source == params["name"] and params["acls"]:
        return True
    named = {"left": source, "right": params["name"]}
    for name in ("tmpdir", "idmap"):
        if params[name]:
            named[name] = params[name]
    return castoff.call("image.verify", named=named).value.get("result") is True


def absent(castoff, params, check):
    """The name does not exist."""
    before = inspect(castoff, params["name"])
    if not before:
        return Result()
    report = castoff.call("image.remove", named={"image": params["name"], "test": check}).value
    return Result(True, before, None, report, report.get("comment"))


def after_of(report, check):
    """The image that a report tells of."""
    if check:
        return {"image_id": "known when it is made"}
    return {"image_id": report["image_id"], "layers": report["layers"]}


def main():
    spec = dict(
        client.ARGUMENTS,
        name={"type": "str", "required": True},
        state={"type": "str", "choices": ["present", "packed", "absent"], "default": "present"},
        source={"type": "str"},
        acls={"type": "bool", "default": True},
        layers={"type": "int", "choices": [1, 2], "default": 1},
        keep_base={"type": "str"},
        changes={"type": "list", "elements": "str", "default": []},
        idmap={"type": "str"},
        live={"type": "bool", "default": False},
        compression={"type": "str", "choices": ["none", "gzip", "zstd"]},
        tmpdir={"type": "path"},
        keep_old={"type": "bool", "default": True},
    )
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    params = module.params
    if params["name"].startswith(FILES):
        module.fail_json(msg="`name` is the name of an image in the store or an engine, not %s" % params["name"],
                         kind="usage", hint="castoff.castoff.call with image.pack or image.copy writes files")
    work = {"present": present, "packed": packed, "absent": absent}[params["state"]]
    try:
        result = work(client.connect(params, module.warn), params, module.check_mode)
    except client.CastoffError as error:
        module.fail_json(msg=error.text(), **error.facts())
    module.exit_json(**result.members(params["name"]))


if __name__ == "__main__":
    main()
