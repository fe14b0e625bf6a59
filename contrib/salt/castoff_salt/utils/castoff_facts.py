"""
What castoff is told of a minion: the parts of its opts, pillar and grains that image settings are made from.

A pillar holds secrets that are none of castoff's business, so nothing else leaves the minion. Keys may be written flat
(``makina-states.cloud.images.lxc.cron_sync``), nested, with ``:`` for ``.``, or in any mixture.
"""

from collections.abc import Mapping, Set

#: Every setting below these names; ``-overrides``, ``-override`` and ``-append`` may follow a name.
WANTED = (
    "makina-states.cloud.images",
    "makina-states.cloud.is",
    "makina-states.cloud.root",
    "makina-states.sf_user",
)
#: What besides tells a container from a machine, and where the version files are.
GRAINS = ("makina.lxc", "makina.devhost", "virtual_subtype")
OPTS = ("file_roots",)


def of(opts, pillar, grains):
    """The minion's facts as castoff takes them."""
    master = pillar.get("master")
    wanted_pillar = prune(pillar, WANTED)
    if isinstance(master, Mapping):
        # `pillar_opts: True` puts the whole configuration of the master here.
        wanted_master = prune(master, WANTED)
        if wanted_master:
            wanted_pillar["master"] = wanted_master
    return {
        "id": opts.get("id"),
        "opts": prune(opts, WANTED + OPTS),
        "pillar": wanted_pillar,
        "grains": prune(grains, WANTED + GRAINS),
    }


def prune(tree, wanted, above=""):
    """The branches of a tree that lead to a wanted name or lie below one."""
    kept = {}
    for key, value in tree.items():
        if not isinstance(key, str):
            continue
        name = f"{above}{key}".replace(":", ".")
        if any(_is_or_is_below(name, one) for one in wanted):
            kept[key] = plain(value)
        elif isinstance(value, Mapping) and any(one.startswith(f"{name}.") for one in wanted):
            below = prune(value, wanted, f"{name}.")
            if below:
                kept[key] = below
    return kept


def _is_or_is_below(name, wanted):
    return name == wanted or name.startswith((f"{wanted}.", f"{wanted}-"))


def plain(value):
    """The value in the types that JSON has, whatever wrappers Salt put around it."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, Set)):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
