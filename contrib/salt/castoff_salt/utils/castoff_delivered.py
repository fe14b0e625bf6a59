"""
Image settings on a minion that has no castoff: what its master delivered, as the module castoff succeeds would read it.

Takes the minion's facts (:py:mod:`castoff_facts`) and gives plain values; reads the version files of a checkout of
makina-states where the minion has one.
"""

import copy
import os
import re

from salt.exceptions import CommandExecutionError

PREFIX = "makina-states.cloud.images"
ROOT = "/srv/makina-states"
IMAGES = tuple(f"makina-states-{release}" for release in ("bionic", "xenial", "vivid", "trusty", "precise"))
FLAVORS = ("lxc", "standalone")
URL = "https://downloads.sourceforge.net/makinacorpus/makina-states/{img}-{flavor}-{ver}.tar.xz"
SFTP_URL = "frs.sourceforge.net:/home/frs/project/makinacorpus/makina-states"
GIT_URL = "ssh://github.com/makinacorpus/makina-states"
#: Names that name each other twice would fill any memory.
LARGEST_TEXT = 1024 * 1024
_REPLACING, _APPENDING = ("-overrides", "-override"), "-append"
_NOTHING = object()
_NOBODY = {"opts": {}, "pillar": {}, "grains": {}}


def settings(facts, ttl=None):  # pylint: disable=unused-argument
    """``mc_cloud_images.settings``: nothing is cached here, so ``ttl`` makes no difference."""
    data = _configured(
        facts,
        {
            "root": ROOT,
            "kvm": {"images": {}},
            "git_url": GIT_URL,
            "sftp_url": SFTP_URL,
            "sftp_user": _sftp_user(facts),
            "lxc": {
                "images_root": "/var/lib/lxc",
                "cron_sync": False,
                "default": IMAGES[0],
                "images": {},
                "cron_hour": "3",
                "cron_minute": "3",
            },
        },
    )
    data["root"] = look_up(facts, "makina-states.cloud.root", ROOT)
    _complete(data)
    if _is_contained(facts):
        data["lxc"]["cron_sync"] = False
    return data


def get_vars(facts, **given):
    """``mc_cloud_images.get_vars``: names and places of an image's next release."""
    own = settings(facts)
    bases = (facts["opts"].get("file_roots") or {}).get("base") or ["/srv/salt"]
    variables = {
        "file_root": bases[0],
        "tarball": "{container}-{flavor}-{next_ver}.tar.xz",
        "absolute_tarball": "{root}/{tarball}",
        "root": "/var/lib/lxc",
        "container_path": "{root}/{container}",
        "rootfs": "{container_path}/rootfs",
        "ver_file": os.path.join(_versions(own), "{container}-{flavor}_version.txt"),
        "user": own["sftp_user"],
        "sftp_url": own["sftp_url"],
        "git_url": own["git_url"],
        **{name: value for name, value in given.items() if not name.startswith("__")},
    }
    variables.setdefault("flavor", "standalone")
    variables["container"] = str(variables.get("container", IMAGES[0])).replace("imgbuild-", "")
    version = int(_version(resolve(variables)["ver_file"]) or 0)
    return resolve({**variables, "cur_ver": version, "next_ver": version + 1})


def guess_template_env(facts, name, clone_from=None):  # pylint: disable=unused-argument
    """``mc_cloud_images.guess_template_env``: operating system and release that the words of a name speak of."""
    for text in (name, clone_from or ""):
        for release in ("bionic", "xenial", "wily", "utopic", "vivid", "trusty", "precise"):
            if re.search(rf"(?<![^\W\d_]){release}(?![^\W\d_])", str(text)):
                return {"os": "ubuntu", "release": release}
    return {"os": "ubuntu", "release": "bionic"}


#: What is answered without castoff; everything else needs it.
ANSWERS = {
    "mc_cloud_images.settings": settings,
    "mc_cloud_images.get_vars": get_vars,
    "mc_cloud_images.guess_template_env": guess_template_env,
}


def look_up(facts, name, default=None):
    """The first value of this name: opts, pillar, grains, then the master's configuration in the pillar."""
    for tree in (facts["opts"], facts["pillar"], facts["grains"], facts["pillar"].get("master", {})):
        value = _below(tree, name.split("."))
        if value is not _NOTHING:
            return value
    return default


def _below(tree, words):
    # One flat key, a tree, then ever longer beginnings of the name kept whole.
    keys = [[".".join(words)], words]
    keys += [[".".join(words[:count]), *words[count:]] for count in range(2, len(words))]
    for path in keys:
        value = tree
        for key in path:
            value = value.get(key, _NOTHING) if isinstance(value, dict) else _NOTHING
        if value is not _NOTHING:
            return value
    return _NOTHING


def _configured(facts, data):
    """The defaults with what the minion was told below the prefix, references between its values resolved."""
    whole = look_up(facts, PREFIX)
    if whole is not None:
        data = merge(data, whole, PREFIX)
    flat = {}
    for tree in (facts["opts"], facts["pillar"], facts["grains"]):
        for key in tree:
            if key.startswith(f"{PREFIX}."):
                flat.setdefault(key[len(PREFIX) + 1 :], look_up(facts, key))
    for name in sorted(flat, key=lambda name: (name.count("."), name)):
        _set(data, name.split("."), copy.deepcopy(flat[name]))
    return resolve(data)


def _set(data, words, value):
    *path, last = words
    for word in path:
        data = data.setdefault(word, {})
        if not isinstance(data, dict):
            raise CommandExecutionError(f"`{PREFIX}.{'.'.join(words)}` is below `{word}`, which is no map")
    for suffix in _REPLACING:
        if last.endswith(suffix):
            data[last[: -len(suffix)]] = value
            return
    last = last[: -len(_APPENDING)] if last.endswith(_APPENDING) else last
    old = data.get(last)
    if isinstance(old, list) and isinstance(value, list):
        data[last] = old + [item for item in value if item not in old]
    else:
        data[last] = merge({last: old}, {last: value}, PREFIX)[last] if old is not None else value


def merge(left, right, where):
    """Both maps in one: maps are merged, everything else of the right replaces what is left."""
    if not isinstance(right, dict):
        raise CommandExecutionError(f"`{where}` must be a map, not `{right}`")
    merged = copy.deepcopy(left)
    for key, value in right.items():
        if isinstance(merged.get(key), dict) and value is not None:
            merged[key] = merge(merged[key], value, f"{where}.{key}")
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def resolve(data):
    """``{name}`` in texts is the value of that name at the top; repeated until nothing changes."""
    for _ in range(100):
        resolved = _resolved(data, data)
        if resolved == data:
            break
        data = resolved
    return data


def _resolved(value, names):
    if isinstance(value, dict):
        return {key: _resolved(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolved(item, names) for item in value]
    if not isinstance(value, str):
        return value
    whole = re.fullmatch(r"\{([^{}:]+)\}", value)
    if whole and isinstance(names.get(whole[1]), (dict, list)):
        container = names[whole[1]]
        # A container that holds the text is not put into itself.
        return value if _holds(container, value) else copy.deepcopy(container)

    def replace(found):
        return str(names[found[1]]) if found[1] in names and names[found[1]] != value else found[0]

    text = re.sub(r"\{([^{}:]+)\}", replace, value)
    if len(text) > LARGEST_TEXT:
        raise CommandExecutionError(f"`{value[:40]}` grows beyond {LARGEST_TEXT} characters")
    return text


def _holds(container, text):
    if isinstance(container, (dict, list)):
        return any(_holds(item, text) for item in (container.values() if isinstance(container, dict) else container))
    return container == text


def _versions(data):
    """The folder of the version files."""
    root = data["root"]
    if not isinstance(root, str) or not root.startswith("/"):
        raise CommandExecutionError(f"`root` must be an absolute path, not `{root}`")
    inside = os.path.join(root, "makina-states")
    return os.path.join(inside if "makina-states" not in root and os.path.isdir(inside) else root, "versions")


def _complete(data):
    versions = _versions(data)
    images = data["lxc"]["images"]
    for name in IMAGES:
        if images.get(name) is None:
            images[name] = {}
    for name, image in images.items():
        if not isinstance(image, dict):
            raise CommandExecutionError(f"image `{name}` must be a map, not `{image}`")
        image = {"builder_ref": f"{name}-lxc-ref.foo.net", **image}
        for flavor in image.setdefault("flavors", list(FLAVORS)):
            _complete_flavor(image, name, flavor, versions)
        images[name] = image


def _complete_flavor(image, name, flavor, versions):
    path = os.path.join(versions, f"{name}-{flavor}_version.txt")
    if not os.path.abspath(path).startswith(versions + os.sep) or "/" in str(flavor):
        raise CommandExecutionError(f"`{name}` of flavor `{flavor}` would lead to another folder")
    version, digest = _version(path), _text(f"{path}.md5")
    if version is None and digest is None:
        return
    if version is None or digest is None:
        raise CommandExecutionError(f"of `{path}` and `{path}.md5` one is missing")
    image[f"{flavor}_tarball_ver"] = version
    image[f"{flavor}_tarball_md5"] = digest
    names = {"img": name, "flavor": flavor, "ver": version}
    url = re.sub(r"\{(img|flavor|ver)\}", lambda found: names[found[1]], image.get(f"{flavor}_url", URL))
    image[f"{flavor}_url"] = url
    tarball = image.setdefault(f"{flavor}_tarball", url)
    image.setdefault(f"{flavor}_tarball_name", os.path.basename(tarball))


def _version(path):
    """The number in a version file, as it is written; none where there is no such file."""
    text = _text(path)
    if text is not None and not re.fullmatch("[0-9]{1,18}", text):
        raise CommandExecutionError(f"`{path}` does not hold a version")
    return text


def _text(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except FileNotFoundError:
        return None


def _sftp_user(facts):
    return look_up(facts, "makina-states.sf_user", "kiorky")


def _is_contained(facts):
    """Whether this machine gets its images from another: an LXC container, a developer's machine, a VM of the cloud."""
    grains = facts["grains"]
    lxc = look_up({**_NOBODY, "grains": grains}, "makina.lxc", grains.get("virtual_subtype") == "LXC")
    devhost = look_up({**_NOBODY, "grains": grains}, "makina.devhost")
    return bool(lxc or devhost or look_up(facts, "makina-states.cloud.is.vm"))
