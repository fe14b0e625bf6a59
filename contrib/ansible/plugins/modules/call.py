#!/usr/bin/python
"""Calls a function of castoff."""

from __future__ import annotations

DOCUMENTATION = r"""
module: call
short_description: Call a function of castoff
description:
  - Calls any function of castoff's table; C(castoff call sys.list_functions) lists them.
  - Stands in for the C(saltcall) module of makina-states for the functions castoff has; its options are accepted.
  - Only castoff's own functions can be called. C(state.sls), C(mc_project.*) and the like stay with C(salt-call).
extends_documentation_fragment:
  - castoff.castoff.conn
options:
  function:
    description: The function, as C(module.function).
    type: str
    required: true
  args:
    description:
      - Words as on the command line of C(castoff call) and C(salt-call), positional or C(name=value), whose types
        are read from how they are written.
      - One text, split as a shell would split it, or a list of which each item is one word.
    type: raw
  kwargs:
    description:
      - Arguments by name, with the types they have here; text stays text.
      - Values of arguments that are named like a secret (password, token, key and so on) are not shown.
    type: dict
    default: {}
  verbose:
    description: Give the whole result as text in C(msg.stdout) as well.
    type: bool
    default: false
  config_dir:
    description: The folder of C(castoff.yaml), where O(executable) is run; a daemon has its own configuration.
    type: path
  loglevel:
    description: What O(executable) logs; a daemon has its own level.
    type: str
  local:
    description: Ignored; castoff has no master.
    type: bool
attributes:
  check_mode:
    description: A function that changes something is called with C(test=True); one that changes nothing is called.
    support: full
  diff_mode:
    description: What would change is in the result of the function.
    support: none
author:
  - castoff developers (@castoff)
"""

EXAMPLES = r"""
- name: Pack an image, with words as on the command line
  castoff.castoff.call:
    function: mc_cloud_images.pack_docker
    args: example/app:1 keep_old=False

- name: The same, with values
  castoff.castoff.call:
    function: mc_cloud_images.pack_docker
    kwargs:
      image: example/app:1
      keep_old: false

- name: Which versions there are
  castoff.castoff.call:
    function: mc_cloud_images.settings
  register: settings

- name: Show one
  ansible.builtin.debug:
    var: settings.msg.salt_out.lxc.images
"""

RETURN = r"""
msg:
  description:
    - The call, in the form that the C(saltcall) module had.
    - When the call fails this is a text, and RV(result) holds the form.
  returned: success
  type: dict
  contains:
    salt_out:
      description: What the function returned.
      type: raw
    salt_fun:
      description: The function.
      type: str
    salt_args:
      description: The words of O(args).
      type: list
      elements: str
    retcode:
      description: Salt's return code.
      type: int
    status:
      description: Whether RV(msg.retcode) is 0.
      type: bool
    error:
      description: Why it failed.
      type: str
    cli:
      description: The call as a person would type it, without O(kwargs).
      type: str
    stdout:
      description: The result as JSON with O(verbose), else C(<TRIMMED>).
      type: str
    stderr:
      description: Always empty.
      type: str
result:
  description: What RV(msg) is when the call succeeds.
  returned: failure
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
job:
  description: The job that a long function was.
  returned: when the daemon made it a job
  type: str
"""

import json
import shlex

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.castoff.castoff.plugins.module_utils import client


def shape(function, words, outcome=None, error=None, verbose=False):
    """The result in the form of the `saltcall` module."""
    retcode = error.retcode if error else outcome.retcode
    text = json.dumps(outcome.value, ensure_ascii=False, indent=4) if outcome and verbose else None
    return {
        "salt_fun": function,
        "salt_args": words,
        "salt_out": outcome.value if outcome else None,
        "retcode": retcode,
        "status": retcode == 0,
        "error": error.text() if error else None,
        "cli": " ".join(["castoff", "call", function] + [shlex.quote(word) for word in words]),
        "stdout": text if text is not None else "<TRIMMED>",
        "stderr": "",
    }


def main():
    spec = dict(
        client.ARGUMENTS,
        function={"type": "str", "required": True},
        args={"type": "raw"},
        kwargs={"type": "dict", "default": {}},
        verbose={"type": "bool", "default": False},
        config_dir={"type": "path"},
        loglevel={"type": "str"},
        local={"type": "bool"},
    )
    # Ansible would log `args` and `kwargs` as they are: what is secret in them is known one line later.
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True, no_log=True)
    module.log("castoff: " + module.params["function"])
    function, named = module.params["function"], dict(module.params["kwargs"])
    words = []
    try:
        words = client.words_of(module.params["args"])
        module.no_log_values.update(client.secrets(words, named))
        castoff = client.connect(module.params, module.warn)
        changes = castoff.changes(function)
        told = client.asks_only_to_tell(words, named)
        if module.check_mode and changes:
            words = [word for word in words if not word.startswith("test=")]
            named["test"] = told = True
        outcome = castoff.call(function, words, named)
    except client.CastoffError as error:
        module.fail_json(msg=error.text(), result=shape(function, words, error=error), **error.facts())
    changed = bool(changes) and (module.check_mode or not told) and client.has_changed(outcome.value, told)
    result = shape(function, words, outcome, verbose=module.params["verbose"])
    extra = {"job": outcome.job} if outcome.job else {}
    if outcome.retcode != 0:
        why = outcome.value.get("comment") if isinstance(outcome.value, dict) else None
        result["error"] = why or "%s answered with return code %d" % (function, outcome.retcode)
        module.fail_json(msg=result["error"], result=result, kind="failed", changed=changed, **extra)
    module.exit_json(changed=changed, msg=result, **extra)


if __name__ == "__main__":
    main()
