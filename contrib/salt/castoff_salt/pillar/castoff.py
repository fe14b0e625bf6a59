"""
External pillar: the image settings of each minion, from castoff.

.. code-block:: yaml

    ext_pillar:
      - castoff:                    # the daemon at its usual place, else the binary
      - castoff: /run/castoff.sock  # or: the daemon there
      - castoff:                    # or: with any of these
          socket: /run/castoff.sock
          timeout: 10               # seconds until the whole answer must be there

Raises when castoff cannot answer, so that ``state.apply`` refuses to run instead of running with half a pillar. Do not
turn on ``pillar_cache``: it would keep such failures; castoff caches by itself.
"""

try:
    from castoff_salt.utils import castoff_client
except ImportError:  # Copied to _pillar and _utils.
    import castoff_client

__virtualname__ = "castoff"


def __virtual__():
    return __virtualname__


def ext_pillar(minion_id, pillar, socket=None, timeout=None):  # pylint: disable=unused-argument
    """The pillar of this minion; a map, always."""
    return castoff_client.connect(__opts__, socket, timeout).pillar(minion_id)
