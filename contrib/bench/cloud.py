"""A cloud to ask about: a pillar root with so many VMs on compute nodes, and images with releases."""

import os

DOMAIN = "example.net"
CONTROLLER = "controller." + DOMAIN
IMAGES = ["makina-states-trusty", "makina-states-vivid", "harbour-base", "harbour-web"]
FLAVORS = ["lxc", "standalone"]


def vm(number):
    return f"vm-{number:04}.{DOMAIN}"


class Cloud:
    """The files, and how they change."""

    def __init__(self, folder, vms, own=False):
        """`own`: each VM has settings of its own, so that no two pillars are equal."""
        self.folder, self.vms, self.own = folder, vms, own
        self.root, self.tree = os.path.join(folder, "pillar"), os.path.join(folder, "makina-states")
        self.versions = os.path.join(self.tree, "versions")
        os.makedirs(self.root, exist_ok=True)
        os.makedirs(self.versions, exist_ok=True)
        self.write_all(1)

    def environment(self):
        """What castoff needs to be told."""
        return {"CASTOFF_PILLAR_ROOT": self.root, "CASTOFF_MINION_ID": CONTROLLER}

    def database(self, serial):
        """The text of the database; `serial` comes out in every answer."""
        images = "".join(f"        {name}: {{builder_ref: {name}-ref-{serial}.{DOMAIN}}}\n" for name in IMAGES)
        text = (f"cloud_settings:\n  cloud: {{root: {self.tree}}}\n"
                f"  images:\n    serial: {serial}\n    lxc:\n      images:\n{images}"
                + "".join(f"  images_{vm(number)}: {{owner: team-{number % 97}, number: {number}}}\n"
                          for number in range(self.vms if self.own else 0)) +
                f"configurations:\n  default: {{cloud_master: false}}\n  {CONTROLLER}: {{cloud_master: true}}\n"
                "vms:\n  lxc:\n")
        lines = []
        for number in range(self.vms):
            if number % 50 == 0:
                lines.append(f"    node-{number // 50:03}.{DOMAIN}:\n")
            lines.append(f"      - {vm(number)}\n")
        nodes = "".join(f"  - node-{number:03}.{DOMAIN}\n" for number in range((self.vms + 49) // 50))
        return text + "".join(lines) + "baremetal_hosts:\n" + nodes

    def write_all(self, serial):
        """Replaces every source file."""
        replace(os.path.join(self.root, "database.yaml"), self.database(serial))
        for image in IMAGES:
            for flavor in FLAVORS:
                self.release(image, flavor, serial)

    def release(self, image, flavor, version):
        """Writes a release as it is published: the checksum, then the version."""
        path = os.path.join(self.versions, f"{image}-{flavor}_version.txt")
        replace(path + ".md5", f"{version:032x}")
        replace(path, str(version))


def replace(path, text):
    """A new file in the place of the old one."""
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(text)
    os.rename(path + ".new", path)
