"""
Image settings that a machine's castoff shall have, whatever its database says.

.. code-block:: yaml

    no-cron-here:
      castoff.settings_present:
        - settings:
            lxc:
              cron_sync: False
"""

import os
import re

try:
    from castoff_salt.utils import castoff_client
except ImportError:  # Copied to _states and _utils.
    import castoff_client

__virtualname__ = "castoff"


def __virtual__():
    return __virtualname__


def settings_present(name, settings, folder="/etc/castoff/castoff.d"):
    """
    Keep these image settings in a file of castoff's configuration; they win over database, pillar and grains.

    name
        Name of the file, without its folder and ``.yaml``. Of several files the later name wins.

    settings
        Map of settings, as ``mc_cloud_images.settings`` shows them.

    folder
        Folder of castoff's configuration files.

    castoff judges the settings before anything is written. A daemon takes them when it is reloaded: let the service
    watch this state.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        return _failed(name, f"`{name}` cannot be the name of a file: letters, digits, `.`, `_` and `-`")
    if not isinstance(settings, dict) or not settings:
        return _failed(name, "`settings` must be a map that is not empty")
    try:
        castoff_client.judge_settings(__opts__, settings)
    except castoff_client.CastoffError as error:
        return _failed(name, str(error))
    path = os.path.join(folder, f"{name}.yaml")
    done = __states__["file.serialize"](
        path,
        dataset={"settings": settings},
        serializer="yaml",
        serializer_opts=[{"default_flow_style": False}, {"allow_unicode": True}],
        makedirs=True,
        mode="0644",
        show_changes=True,
    )
    return {**done, "name": name}


def _failed(name, comment):
    return {"name": name, "result": False, "changes": {}, "comment": comment}
