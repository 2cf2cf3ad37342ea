"""Plays a node of a cluster in a mount namespace of its own: a pod that mounts, a pod that reads.

Arguments: an empty directory, the entrypoint. Prints what the reading pod saw as JSON.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

place, entrypoint = Path(sys.argv[1]), sys.argv[2]
host, backup, view = place / "host", place / "backup", place / "view"
storage = host / "storage"
PROGRAMS = str(Path(sys.executable).parent)


def run(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True, timeout=30)


class Reader:
    """A pod with `mountPropagation: HostToContainer`: a slave of the node's mounts."""

    def __init__(self) -> None:
        script = (
            'mount --rbind "$1" "$2"; echo ready; '
            'while read -r line; do (eval "$line") >"$3" 2>&1; echo "$?"; done'
        )
        self.said = place / "said"
        pipe = subprocess.PIPE
        self.shell = subprocess.Popen(
            [
                *("unshare", "-m", "--propagation", "slave", "sh", "-c", script, "sh"),
                *map(str, (host, view, self.said)),
            ],
            stdin=pipe, stdout=pipe, text=True,
        )  # fmt: skip
        assert self.line() == "ready"

    def line(self) -> str:
        assert self.shell.stdout is not None
        return self.shell.stdout.readline().strip()

    def does(self, *words: object) -> tuple[int, str]:
        assert self.shell.stdin is not None
        self.shell.stdin.write(shlex.join(map(str, words)) + "\n")
        self.shell.stdin.flush()
        status = int(self.line())
        return status, self.said.read_text(errors="replace")

    def backs_up(self) -> dict[str, object]:
        status, said = self.does("rsync", "-a", "--delete", f"{view}/storage/tags/mine/", backup)
        return {"status": status, "said": said, "kept": len(list(backup.iterdir()))}

    def end(self) -> None:
        assert self.shell.stdin is not None
        self.shell.stdin.close()
        self.shell.wait(10)


def mount() -> subprocess.Popen[bytes]:
    """The pod that mounts: the image's entrypoint, with the options of the DaemonSet."""
    arguments = ("mount", "--foreground", "--allow-other", "--on-term=leave")
    process = subprocess.Popen(
        ["sh", entrypoint, *arguments, f"--cache-dir={place}/cache", str(storage)],
        env=os.environ | {"PATH": f"{PROGRAMS}:{os.environ['PATH']}"},
        stderr=subprocess.DEVNULL,
    )
    deadline_s = time.monotonic() + 40
    while time.monotonic() < deadline_s:
        live = subprocess.run(
            [f"{PROGRAMS}/up42fs", "status", "--json", str(storage)], capture_output=True
        )
        if live.returncode == 0:
            return process
        assert process.poll() is None, "the mount ended"
        time.sleep(0.1)
    raise AssertionError("no mount")


def liveness() -> int:
    command = [f"{PROGRAMS}/up42fs", "status", "--json", str(storage)]
    return subprocess.run(command, capture_output=True).returncode


for directory in (host, backup, view):
    directory.mkdir()
run("mount", "-t", "tmpfs", "tmpfs", host)
run("mount", "--make-shared", host)
seen: dict[str, object] = {}
reader = Reader()
pod = mount()
seen["first"] = reader.backs_up()
seen["live"] = liveness()
pod.send_signal(signal.SIGTERM)
pod.wait(20)
seen["after SIGTERM"] = reader.backs_up()
seen["dead"] = liveness()
pod = mount()  # the next pod, over what the first one left
seen["again"] = reader.backs_up()
# The other way, as contrib/kubernetes/unmount-on-stop does: the mount point goes away, too.
shell = f"up42fs unmount --lazy {storage} && rmdir {storage}"
run("env", f"PATH={PROGRAMS}:{os.environ['PATH']}", "sh", "-c", shell)
pod.wait(20)
seen["after preStop"] = reader.backs_up()
reader.end()
print(json.dumps(seen))
