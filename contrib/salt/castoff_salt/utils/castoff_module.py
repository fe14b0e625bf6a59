"""What every execution module of castoff does: take the arguments, say what castoff needs to know, call, hand over."""

import inspect

try:
    from castoff_salt.utils import castoff_client, castoff_delivered, castoff_facts
except ImportError:  # Copied to _utils.
    import castoff_client
    import castoff_delivered
    import castoff_facts

#: The modules of the table that read image settings, and so must know what the minion was told.
_READ_SETTINGS = ("mc_cloud_images", "mc_lxc", "settings")


def call(name, function, given, dunders):
    """
    Calls ``name`` of castoff's table with what its Python double was given.

    ``dunders`` are the globals of the calling module: Salt puts ``__opts__`` and its like there.
    """
    positional, named = arguments(function, given)
    return run(name, positional, named, dunders)


def run(name, positional, named, dunders):
    """The same for arguments that nobody has to sort."""
    opts = dunders["__opts__"]
    try:
        way = castoff_client.connect(opts)
    except castoff_client.NotInstalled:
        answer = castoff_delivered.ANSWERS.get(name)
        if answer is None:
            raise
        return answer(_facts(dunders), *positional, **named)
    facts = _facts(dunders) if name.split(".", 1)[0] in _READ_SETTINGS else None
    value, retcode = way.call(name, positional, named, facts)
    if retcode:
        dunders["__context__"]["retcode"] = retcode
    return value


def arguments(function, given):
    """What was given besides the defaults, so that an older castoff is not told what it does not know."""
    positional, named = [], {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            positional.extend(given[name])
        elif parameter.kind is parameter.VAR_KEYWORD:
            named.update(castoff_client.public(given[name]))
        elif parameter.default is parameter.empty or _differ(given[name], parameter.default):
            named[name] = given[name]
    if positional:
        # Python lets nothing stand between positional arguments: those before them are positional too.
        first = [name for name, one in inspect.signature(function).parameters.items() if one.kind is one.POSITIONAL_OR_KEYWORD]
        named = {name: value for name, value in named.items() if name not in first}
        positional = [given[name] for name in first] + positional
    return positional, named


def _differ(value, default):
    # False is not 0 here: castoff tells them apart.
    return type(value) is not type(default) or value != default


def _facts(dunders):
    return castoff_facts.of(dunders["__opts__"], dunders["__pillar__"], dunders["__grains__"])


def maker(path):
    """Whose module a file is: castoff's, or that of the original."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return "castoff" if "contrib/salt/generate.py" in file.read(4096) else "the original"
