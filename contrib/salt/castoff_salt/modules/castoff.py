"""
castoff for Salt: call any of its functions, and see how it is reached from here.

The functions themselves are in ``mc_cloud_images``, ``castoff_image``, ``castoff_sys`` and their like.
"""

import os

try:
    from castoff_salt.utils import castoff_client, castoff_module
except ImportError:  # Copied to _modules and _utils.
    import castoff_client
    import castoff_module

__virtualname__ = "castoff"


def __virtual__():
    return __virtualname__


def call(fun, *args, **kwargs):
    """
    Call a function of castoff by the name that castoff has for it.

    CLI Example:

    .. code-block:: bash

        salt-call castoff.call image.list
        salt-call castoff.call mc_cloud_images.settings ttl=0
    """
    return castoff_module.run(fun, list(args), castoff_client.public(kwargs), globals())


def pillar(minion_id):
    """
    Return the pillar that castoff has for a minion, unmasked.

    CLI Example:

    .. code-block:: bash

        salt-call castoff.pillar web-1.example.net
    """
    return castoff_client.connect(__opts__).pillar(minion_id)


def status():
    """
    Return how castoff is reached, whether it answers, and which ``mc_cloud_images`` Salt has loaded.

    The result is False where castoff does not answer.

    CLI Example:

    .. code-block:: bash

        salt-call castoff.status
    """
    told = {"mc_cloud_images": _which()}
    try:
        way = castoff_client.connect(__opts__)
        told["through"] = str(way)
        told["version"] = way.call("sys.version")[0]["version"]
        told["result"] = True
    except castoff_client.CastoffError as error:
        told.update(result=False, error=str(error))
        __context__["retcode"] = 2
    return told


def _which():
    """The file of ``mc_cloud_images`` that Salt's loader took, whose it is, and those that it did not take."""
    name = "mc_cloud_images.settings"
    loaded = __salt__[name] if name in __salt__ else None
    code = getattr(getattr(loaded, "func", loaded), "__code__", None)
    wins = os.path.realpath(code.co_filename) if code else None
    found = {os.path.realpath(path) for path in _candidates()}
    return {
        "wins": wins,
        "is": castoff_module.maker(wins) if wins else "not loaded",
        "shadowed": sorted(found - {wins}),
    }


def _candidates():
    folders = [os.path.dirname(__file__), os.path.join(__opts__.get("extension_modules") or "", "modules")]
    for folder in __opts__.get("module_dirs") or []:
        folders += [folder, os.path.join(folder, "modules"), os.path.join(folder, "_modules")]
    paths = [os.path.join(folder, "mc_cloud_images.py") for folder in folders]
    return [path for path in paths if os.path.isfile(path)]
