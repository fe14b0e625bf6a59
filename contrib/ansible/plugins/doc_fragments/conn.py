"""The options by which every plugin of this collection finds castoff."""

from __future__ import annotations


class ModuleDocFragment:
    """Read by ansible-doc."""

    DOCUMENTATION = r"""
options:
  socket:
    description:
      - The unix socket of the castoff daemon.
      - Without it, E(CASTOFF_SOCKET) where the plugin runs, else V(/run/castoff/castoff.sock) for root and
        V(castoff.sock) in E(XDG_RUNTIME_DIR) for others.
      - A socket that exists but refuses is an error, never a reason to try something else.
    type: path
  url:
    description:
      - A daemon that listens on TCP, instead of the socket, for example V(https://controller.example:8443).
      - Plain C(http) is accepted for loopback addresses only.
    type: str
  token:
    description: Bearer token for O(url). Without it, E(CASTOFF_TOKEN) where the plugin runs.
    type: str
  ca_file:
    description: Certificates that O(url) is checked against, instead of the system's.
    type: path
  client_cert:
    description: Client certificate for O(url).
    type: path
  client_key:
    description: Key of O(client_cert), if it is not in the same file.
    type: path
  executable:
    description:
      - The C(castoff) binary to run where no socket exists; without it a missing socket is an error.
      - A path that ends in C(salt-call), as users of the C(saltcall) module gave, is ignored with a warning.
    type: path
  timeout:
    description:
      - Seconds to wait for the result.
      - A long function that is not done by then is cancelled, and the task fails.
    type: int
    default: 3600
"""
