#!/usr/bin/env python3
"""
Writes Salt's execution modules from castoff's function table: ``generate.py CASTOFF [FOLDER]``.

CASTOFF is the binary, FOLDER takes the modules (here: castoff_salt/modules). A test runs this and compares with what is
committed, so the glue cannot lag behind the table.
"""

import builtins
import json
import keyword
import pathlib
import re
import subprocess
import sys
import textwrap

#: The table's module, its name in Salt, and what Salt's users read first. Where the table's name is one of Salt's own,
#: or may become one, it has castoff's in front. `test` is castoff's double of Salt's and stays away.
MODULES = {
    "build": ("castoff_build", "castoff's builds: images from plans, and what failed builds leave behind"),
    "forest": ("castoff_forest", "castoff's images of virtual machines: build a forest of them, push and pull them"),
    "image": ("castoff_image", "castoff's images: pack, verify, inspect, copy, list, remove"),
    "job": ("castoff_job", "castoff's jobs: what works, what worked, with its events and results"),
    "mc_cloud_images": ("mc_cloud_images", "Image settings and images, under the names of makina-states, by castoff"),
    "mc_cloud_lxc": ("mc_cloud_lxc", "Reference containers of images, under the names of makina-states, by castoff"),
    "mc_lxc": ("mc_lxc", "Images of LXC containers on compute nodes, under the names of makina-states, by castoff"),
    "plan": ("castoff_plan", "castoff's plans: what is to be done for an image, what of it is there already and why not"),
    "release": ("castoff_release", "castoff's releases: from a container to an archive with its hashes"),
    "schedule": ("castoff_schedule", "castoff's schedules: what runs when, how it ended, running it now"),
    "settings": ("castoff_settings", "castoff's image settings: where each value came from, what is cached"),
    "store": ("castoff_store", "castoff's own store of images"),
    "sync": ("castoff_sync", "castoff on a host that follows releases: run, look, pin, go back"),
    "sys": ("castoff_sys", "castoff itself: its functions, version, configuration, and what the machine offers it"),
}
APART = {"test"}

HEAD = '''"""
{title}.

Made by contrib/salt/generate.py from castoff's function table: change the table, not this file.
"""

try:
    from castoff_salt.utils import castoff_module
except ImportError:  # Copied to _modules and _utils.
    import castoff_module

__virtualname__ = "{name}"
{alias}

def __virtual__():
    return __virtualname__


def _call(name, function, given):
    return castoff_module.call(name, function, given, globals())
'''


def table(castoff):
    """The functions by name: documentation and signature."""

    def ask(function, *words):
        done = subprocess.run([castoff, "call", "--out=json", function, *words], check=True, capture_output=True)
        return json.loads(done.stdout)["local"]

    documentation = ask("sys.doc")
    return {name: (documentation[name], spec) for name, spec in ask("sys.argspec", "*").items()}


def signature(spec):
    names, defaults = spec["args"] or [], spec["defaults"] or []
    required = len(names) - len(defaults)
    for name in names:
        if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
            sys.exit(f"argument `{name}` cannot be written in Python: give it another name in the table")
    words = names[:required] + [f"{name}={default!r}" for name, default in zip(names[required:], defaults)]
    words += ["*args"] if spec["varargs"] else []
    words += ["**kwargs"] if spec["kwargs"] else []
    return ", ".join(words)


def documentation(text, module, name):
    """The table's text with Salt's words for a call, as a docstring."""
    text = text.replace(f"Usage: {module}.", f"Usage: {name}.")
    text = re.sub(
        r"\bcastoff call ([a-z_]+)\.", lambda found: f"salt-call {MODULES.get(found[1], found.groups())[0]}.", text
    )
    text = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    if text.endswith('"'):
        text += " "
    return textwrap.indent(f'"""\n{text}\n"""', "    ")


def module_text(module, functions):
    name, title = MODULES[module]
    aliases, bodies = {}, []
    for function, (text, spec) in functions:
        short = function.split(".", 1)[1]
        written = short
        if keyword.iskeyword(short) or hasattr(builtins, short):
            written = f"{short}_"
            aliases[written] = short
        if written in (spec["args"] or []):
            sys.exit(f"{function} has an argument of its own name, which Python takes for the function")
        head = f"def {written}({signature(spec)}):"
        if len(head) > 120:
            head = f"def {written}(\n    {signature(spec)}\n):"
        body = f'    return _call("{function}", {written}, locals())'
        bodies.append(f"\n\n{head}\n{documentation(text, module, name)}\n{body}\n")
    alias = f"__func_alias__ = {json.dumps(aliases)}\n" if aliases else ""
    return HEAD.format(title=title, name=name, alias=alias, module=module) + "".join(bodies)


def main(castoff, folder):
    groups = {}
    for function, row in sorted(table(castoff).items()):
        groups.setdefault(function.split(".", 1)[0], []).append((function, row))
    unknown = set(groups) - set(MODULES) - APART
    if unknown:
        sys.exit(f"say in {__file__} what Salt calls {', '.join(sorted(unknown))}")
    folder.mkdir(parents=True, exist_ok=True)
    for module, functions in groups.items():
        if module in MODULES:
            (folder / f"{MODULES[module][0]}.py").write_text(module_text(module, functions), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__.strip())
    here = pathlib.Path(__file__).parent / "castoff_salt/modules"
    main(sys.argv[1], pathlib.Path(sys.argv[2]) if len(sys.argv) == 3 else here)
