"""
Reference containers of images, under the names of makina-states, by castoff.

Made by contrib/salt/generate.py from castoff's function table: change the table, not this file.
"""

try:
    from castoff_salt.utils import castoff_module
except ImportError:  # Copied to _modules and _utils.
    import castoff_module

__virtualname__ = "mc_cloud_lxc"


def __virtual__():
    return __virtualname__


def _call(name, function, given):
    return castoff_module.call(name, function, given, globals())


def sync_image_reference_containers(builder_ref, img, ret=None, template=None, snapshot=True, force=False, test=False):
    """
    Copy the root filesystem of the container an image is built in to the image's own container.

    The copy is made beside, made impersonal, and changes places with the old tree in one step; `lock` files are left out, owners
    stay the numbers they are. A missing image container is made, its configuration adapted. Equal trees are left alone. The
    release that is announced is written to `.ms_version`, where the tree has that file.

        salt-call mc_cloud_lxc.sync_image_reference_containers builder_ref=build-1 img=makina-states-trusty

    Usage: mc_cloud_lxc.sync_image_reference_containers builder_ref img [ret=None] [template=None] [snapshot=True] [force=False] [test=False]

    Arguments:
        builder_ref (text)
            Name of the container that is copied
        img (text)
            Name of the image, which is the name of its container
        ret (map, default None)
            The result of an earlier step: its failure, comment and changes stay in the result
        template (text, default None)
            Accepted for the callers of the original; a missing container is made without a template
        snapshot (boolean, default True)
            Run the image's /sbin/makinastates-snapshot.sh in the copy, where it has one
        force (boolean, default False)
            Accept containers that run; for hosts: an older version than what is there, too
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("mc_cloud_lxc.sync_image_reference_containers", sync_image_reference_containers, locals())


def sync_images(target, output=True, ret=None, test=False):
    """
    Push the LXC images of the settings to one host; see mc_lxc.sync_images.

        salt-call mc_cloud_lxc.sync_images node-1.example.net

    Usage: mc_cloud_lxc.sync_images target [output=True] [ret=None] [test=False]

    Arguments:
        target (text)
            Id of the host
        output (boolean, default True)
            Put the whole report as YAML into `output` when something failed
        ret (map, default None)
            The result of an earlier step: its failure, comment and changes stay in the result
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("mc_cloud_lxc.sync_images", sync_images, locals())
