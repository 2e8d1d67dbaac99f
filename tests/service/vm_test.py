#!/usr/bin/python3
"""Limits on tasks where cgroups enforce them: a whole machine with a kernel of its own, as most containers of a test host have no
cgroups of version 2 to give away. The steps are in vm_guest.py, which runs inside.

Makes a small Debian with mmdebstrap, installs the build under test into it, and boots it in qemu (two minutes, with the network).
"""

import glob
import os
import shutil
import subprocess
import sys
import tempfile

from support import REPOSITORY, make_root, require, run, skip

BUILD = os.environ.get("TASKPOOL_BUILD", os.path.join(REPOSITORY, "build/dev"))
PACKAGES = ["systemd", "systemd-sysv", "dbus", "procps", "linux-image-cloud-amd64", "initramfs-tools", "python3", "libfmt9",
            "libspdlog1.10", "libsystemd0", "libstdc++6"]
GUEST = os.path.join(os.path.dirname(os.path.abspath(__file__)), "vm_guest.py")
MOST_SECONDS = 600  # emulated, and perhaps beside other tests
UNIT = """[Unit]
Wants=taskpoold.socket
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/usr/bin/python3 /opt/guest/vm_guest.py
ExecStopPost=/usr/bin/systemctl --no-block --force poweroff
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS1
[Install]
WantedBy=default.target
"""


def install(root):
    run("cmake", "--install", BUILD, "--strip", env={**os.environ, "DESTDIR": root})
    os.makedirs(os.path.join(root, "opt/guest"))
    shutil.copy(GUEST, os.path.join(root, "opt/guest"))
    with open(os.path.join(root, "etc/systemd/system/vm-guest.service"), "w") as file:
        file.write(UNIT)
    run("chroot", root, "systemd-sysusers")
    run("chroot", root, "systemctl", "enable", "vm-guest.service")


def boot(root, directory):
    """Runs the machine to its end; returns what the guest said, and the console."""
    disk, console, said = (os.path.join(directory, name) for name in ("disk.img", "console.log", "said.log"))
    with open(disk, "wb") as file:
        file.truncate(3 << 30)
    run("mke2fs", "-q", "-t", "ext4", "-d", root, disk, timeout=MOST_SECONDS)
    machine = subprocess.Popen(
        ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max", "-smp", "2", "-m", "2G",
         "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-nic", "none",
         "-kernel", glob.glob(root + "/boot/vmlinuz-*")[0], "-initrd", glob.glob(root + "/boot/initrd.img-*")[0],
         "-append", "root=/dev/vda rw console=ttyS0 quiet mitigations=off systemd.show_status=0",
         "-drive", f"file={disk},format=raw,if=virtio,cache=unsafe", "-serial", "file:" + console, "-serial", "file:" + said],
        stdin=subprocess.DEVNULL)
    try:
        machine.wait(MOST_SECONDS)
    except subprocess.TimeoutExpired:
        print("it did not end by itself")
    finally:
        machine.kill()
        machine.wait()
    texts = []
    for path in (said, console):
        with open(path, errors="replace") as file:
            texts.append(file.read())
    return texts


def main():
    require("mmdebstrap", "qemu-system-x86_64", "mke2fs", "cmake")
    if not os.path.exists(os.path.join(BUILD, "bin/taskpoold")):
        skip(f"{BUILD} is not built")
    with tempfile.TemporaryDirectory(prefix="taskpool-vm-") as directory:
        root = os.environ.get("TASKPOOL_VM_ROOT")  # one that was made before; to try the steps
        if root:
            run("cp", "-a", root, os.path.join(directory, "root"), timeout=MOST_SECONDS)
        root = os.path.join(directory, "root")
        if not os.path.exists(root):
            make_root(root, PACKAGES)
        install(root)
        said, console = boot(root, directory)
    print(said)
    if not said.rstrip().endswith("all steps passed"):
        print("--- the console:\n" + console[-3000:])
        sys.exit(1)


if __name__ == "__main__":
    main()
