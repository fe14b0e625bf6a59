"""
Images that a machine shall have, or shall not have.

.. code-block:: yaml

    store:group/web:1:
      castoff_image.packed:
        - source: dir:/var/lib/lxc/web/rootfs
        - changes:
          - CMD ["/sbin/init"]

    store:group/old:1:
      castoff_image.absent: []

    makina-states-trusty:
      castoff_image.released:
        - flavors: [lxc, standalone]
        - follow: True
"""

try:
    from castoff_salt.utils import castoff_client
except ImportError:  # Copied to _states and _utils.
    import castoff_client

__virtualname__ = "castoff_image"


def __virtual__():
    return __virtualname__


def packed(name, source=None, layers=1, follow=False, **options):
    """
    Make an image of one layer, with every ACL intact, unless it is there.

    name
        Reference of the image: ``store:group/name:1``, ``docker-daemon:group/name:1`` or any other.

    source
        Root filesystem (``dir:PATH``, ``tar:FILE``) or image to make it from. Without one, the image itself is merged
        where it has more than ``layers`` layers.

    layers
        1, or 2: content first, then what has ACLs.

    follow
        Make the image again when its source has other content. Reads both whole every time; without it, an image that
        is there is left alone.

    Everything else is an argument of ``castoff_image.pack``: ``acls``, ``changes``, ``compression``, ``idmap``,
    ``keep_base``, ``keep_old``, ``live``, ``tmpdir``.
    """
    options = {key: value for key, value in castoff_client.public(options).items() if key not in _OF_STATES}
    try:
        why = _why_pack(name, source, layers, follow, options)
        if why is None:
            return _result(name, True, f"Image {name} is there")
        request = {**options, "source": source or name, "destination": name, "layers": layers}
        if __opts__["test"]:
            would, _ = _castoff().call("image.pack", kwarg={**request, "test": True})
            changes = {name: {"old": why[0], "new": would.get("changes")}}
            return _result(name, None, f"Image {name} would be made: {why[1]}", changes)
        report, _ = _castoff().call("image.pack", kwarg=request)
        changes = {name: {"old": why[0], "new": _told(report)}}
        return _result(name, True, f"Image {name} was made: {why[1]}", changes)
    except castoff_client.CastoffError as error:
        return _result(name, False, str(error))


def absent(name):
    """
    Take a name away from an image; the store keeps the image itself until ``castoff_image.gc``.

    name
        Reference of the image.
    """
    try:
        old = _inspect(name)
        if old is None:
            return _result(name, True, f"Image {name} is not there")
        changes = {name: {"old": _told(old), "new": None}}
        if __opts__["test"]:
            return _result(name, None, f"Image {name} would be removed", changes)
        _castoff().call("image.remove", kwarg={"image": name})
        return _result(name, True, f"Image {name} was removed", changes)
    except castoff_client.CastoffError as error:
        return _result(name, False, str(error))


def released(name, flavors=None, follow=False, sync=True, **options):
    """
    Have an image released: archived from its LXC container, uploaded, announced.

    name
        Name of the image, one of ``lxc.images`` in the settings.

    flavors
        Its flavours that are to be released, a list; without it, all that the settings list.

    follow
        Release what the container holds now. A tree that is announced already is not released again, but is read whole
        to find that out. Without it, a flavour that is announced is left alone, whatever the container holds.

    sync
        Bring the image's container to the state of its ``builder_ref`` first.

    Everything else is an argument of ``mc_cloud_images.sf_release``: ``allow``, ``force``, ``live``, ``method``,
    ``snapshot``, ``tmpdir``.
    """
    options = {key: value for key, value in castoff_client.public(options).items() if key not in _OF_STATES}
    try:
        wanted = _flavours(name, flavors)
        before = {flavour: _served(name, flavour) for flavour in wanted}
        due = wanted if follow else [flavour for flavour in wanted if before[flavour] is None]
        if not due:
            return _result(name, True, f"Image {name} is released: {_numbers(before)}")
        request = {**options, "images": [name], "flavors": due, "sync": sync}
        if __opts__["test"]:
            _castoff().call("mc_cloud_images.sf_release", kwarg={**request, "test": True})
            changes = {f"{name}/{flavour}": {"old": before[flavour], "new": "the next release"} for flavour in due}
            when = " where its tree is another one" if follow else ""
            return _result(name, None, f"Image {name} would be released{when}", changes)
        report, _ = _castoff().call("mc_cloud_images.sf_release", kwarg=request)
        told = report["rets"][name]
        after = {flavour: one.get("version") for flavour, one in told["flavors"].items() if one.get("result")}
        changes = {
            f"{name}/{flavour}": {"old": before[flavour], "new": version}
            for flavour, version in after.items()
            if version != before[flavour]
        }
        wrong = [told["trace"]] if told.get("trace") else []
        wrong += [f"{flavour}: {one['trace']}" for flavour, one in told["flavors"].items() if one.get("result") is False]
        wrong += [told["skipped"]] if told.get("skipped") else []
        if wrong:
            return _result(name, False, f"Image {name} is not released: " + "; ".join(wrong), changes)
        if not changes:
            return _result(name, True, f"Image {name} is released, and its tree is what it was: {_numbers(after)}")
        return _result(name, True, f"Image {name} was released: {_numbers(after)}", changes)
    except castoff_client.CastoffError as error:
        return _result(name, False, str(error))


#: What Salt itself adds to the arguments of every state.
_OF_STATES = frozenset(
    ("env", "fun", "order", "reload_grains", "reload_modules", "reload_pillar", "saltenv", "sfun", "state", "umask")
)


def _castoff():
    return castoff_client.connect(__opts__)


def _inspect(name):
    """What castoff says of an image; nothing where there is none."""
    try:
        return _castoff().call("image.inspect", kwarg={"image": name})[0]
    except castoff_client.CastoffError as error:
        if error.kind == "not-found":
            return None
        raise


def _flavours(name, flavors):
    """The flavours that are asked for; without any, those that the settings list."""
    if flavors:
        return [flavors] if isinstance(flavors, str) else [str(flavour) for flavour in flavors]
    settings, _ = _castoff().call("mc_cloud_images.settings")
    image = settings["lxc"]["images"].get(name)
    if image is None:
        raise castoff_client.CastoffError(f"the settings have no image `{name}`", kind="not-found")
    return [str(flavour) for flavour in image["flavors"]]


def _served(name, flavour):
    """The number of the release that is announced; nothing where there is none."""
    status, _ = _castoff().call("release.status", kwarg={"image": name, "flavor": flavour})
    served = status[name][flavour]["served"]
    return served and served["version"]


def _numbers(releases):
    return ", ".join(f"{flavour} {number}" for flavour, number in sorted(releases.items()))


def _why_pack(name, source, layers, follow, options):
    """What is there now, and why the image must be made; nothing where it need not be."""
    old = _inspect(name)
    if old is None:
        if source is None:
            raise castoff_client.CastoffError(
                f"`{name}` does not exist, and no source says what to make it from", kind="not-found"
            )
        return None, "it was not there"
    if source is None:
        count = len(old.get("layers") or [])
        return (_told(old), f"it had {count} layers") if count > layers else None
    if follow:
        compared = {key: options[key] for key in ("tmpdir", "idmap") if key in options}
        same, _ = _castoff().call("image.verify", kwarg={"left": source, "right": name, **compared})
        if not same.get("result"):
            return _told(old), f"{source} has other content"
    return None


def _told(image):
    """Of an image or a report what a person compares."""
    layers = image.get("layers")
    return {"image_id": image.get("image_id"), "layers": len(layers) if isinstance(layers, list) else layers}


def _result(name, result, comment, changes=None):
    return {"name": name, "result": result, "changes": changes or {}, "comment": comment}
