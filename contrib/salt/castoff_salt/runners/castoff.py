"""
castoff on the master: its functions, the pillar of any minion, and whether every minion has one.

Where something fails, the result is a map with ``retcode``, which salt-run takes for its exit code: it has no other way
to fail without a traceback.
"""

import salt.key

try:
    from castoff_salt.utils import castoff_client
except ImportError:  # Copied to _runners and _utils.
    import castoff_client

__virtualname__ = "castoff"


def __virtual__():
    return __virtualname__


def call(fun, *args, **kwargs):
    """
    Call a function of castoff on this master.

    CLI Example:

    .. code-block:: bash

        salt-run castoff.call mc_cloud_images.default_settings
    """
    try:
        value, retcode = castoff_client.connect(__opts__).call(fun, args, kwargs)
    except castoff_client.CastoffError as error:
        return _failed({"error": str(error)})
    return _failed({"return": value}, retcode) if retcode else value


def pillar(minion_id):
    """
    Return the pillar that castoff has for a minion.

    CLI Example:

    .. code-block:: bash

        salt-run castoff.pillar web-1.example.net
    """
    try:
        return castoff_client.connect(__opts__).pillar(minion_id)
    except castoff_client.CastoffError as error:
        return _failed({"error": str(error)})


def check(minions=None):
    """
    Ask castoff for the pillar of every accepted minion and return those that have none, with the reason.

    ``minions`` is a list, or text with commas, of ids to ask for instead. Exits with 1 if any has no pillar.

    CLI Example:

    .. code-block:: bash

        salt-run castoff.check
        salt-run castoff.check web-1.example.net,web-2.example.net
    """
    if minions is None:
        with salt.key.get_key(__opts__) as keys:
            minions = keys.list_keys()["minions"]
    elif isinstance(minions, str):
        minions = [one.strip() for one in minions.split(",") if one.strip()]
    elif not isinstance(minions, list):
        return _failed({"error": "`minions` must be a list, or text with commas"})
    try:
        pillars, errors = castoff_client.connect(__opts__).pillars([str(one) for one in minions])
    except castoff_client.CastoffError as error:
        return _failed({"error": str(error)})
    empty = sorted(minion for minion, values in pillars.items() if not any(values.values()))
    told = {"result": not errors, "asked": len(minions), "no_members": empty, "errors": errors}
    return _failed(told) if errors else told


def _failed(told, retcode=1):
    __context__["retcode"] = retcode
    return {**told, "retcode": retcode}
