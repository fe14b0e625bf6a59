"""
Images of LXC containers on compute nodes, under the names of makina-states, by castoff.

Made by contrib/salt/generate.py from castoff's function table: change the table, not this file.
"""

try:
    from castoff_salt.utils import castoff_module
except ImportError:  # Copied to _modules and _utils.
    import castoff_module

__virtualname__ = "mc_lxc"


def __virtual__():
    return __virtualname__


def _call(name, function, given):
    return castoff_module.call(name, function, given, globals())


def sf_release(
    images=None, flavors=None, sync=True, flavor=None, force=False, allow=None, snapshot=True, method=None, live=False, tmpdir=None, test=False
):
    """
    Release images; see mc_cloud_images.sf_release.

        salt-call mc_lxc.sf_release makina-states-trusty flavor=lxc

    Usage: mc_lxc.sf_release [images=None] [flavors=None] [sync=True] [flavor=None] [force=False] [allow=None] [snapshot=True] [method=None] [live=False] [tmpdir=None] [test=False]

    Arguments:
        images (list, or text with commas, default None)
            Names of images, a list or separated by commas; null: all of the settings
        flavors (list, or text with commas, default None)
            Flavours, of which an image is released in those that its settings list; null: all that they list
        sync (boolean, default True)
            Bring each image's container to the state of its `builder_ref` first
        flavor (list, or text with commas, default None)
            The same as `flavors`, as older calls write it
        force (boolean, default False)
            Release an image although the same tree is announced already
        allow (list, or text with commas, default None)
            What may be released although it is of one machine: host-keys, machine-id, authorized-keys, salt-keys, new-privileged, left-out, each alone or as KIND:PATTERN of paths in the archive
        snapshot (boolean, default True)
            Run the image's /sbin/makinastates-snapshot.sh in the snapshot first, where it has one
        method (text, default None)
            How the tree is held still: reflink, overlay or copy; null: the first of them that works, said in the report
        live (boolean, default False)
            Accept a container that is running: its files are copied in the middle of what its programs do
        tmpdir (path, default None)
            Folder for the snapshot; null: below the state folder
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("mc_lxc.sf_release", sf_release, locals())


def sync_images(only=None, force=False, output=True, force_output=False, test=False):
    """
    Push the LXC images of the settings to every host that virtual machines of the kind lxc run on.

    First the container of each image is made a copy of its `builder_ref`. Then rsync sends it to each host into a new folder
    beside, and the host's `LXC_PATH/IMAGE` leads to it in one step; what was there before is kept. Hosts need rsync and a shell;
    who they are is the operator's ssh configuration and known_hosts. A host that hangs or refuses costs the others nothing.

        salt-call mc_lxc.sync_images
        salt-call mc_lxc.sync_images only=node-1.example.net,node-2.example.net test=True

    Usage: mc_lxc.sync_images [only=None] [force=False] [output=True] [force_output=False] [test=False]

    Arguments:
        only (list, or text with commas, default None)
            Ids of the hosts; null: all
        force (boolean, default False)
            Accept containers that run; for hosts: an older version than what is there, too
        output (boolean, default True)
            Put the whole report as YAML into `output` when something failed
        force_output (boolean, default False)
            Put the whole report as YAML into `output` in any case
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("mc_lxc.sync_images", sync_images, locals())
