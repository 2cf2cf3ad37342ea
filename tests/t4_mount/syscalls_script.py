"""Makes every system call that writes, below a directory; prints the errno of each as JSON.

syscalls_script.py DIRECTORY [data]: with `data` only those that would write or delete data.
A call that succeeds is told as "done"; nothing of it is undone.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
import stat
import sys
from collections.abc import Callable
from functools import partial

libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = -100, 1, 2, 4
UTIME_NOW = (1 << 30) - 1
top = sys.argv[1]
os.chdir(top)
FILE = "assets/" + next(n for n in os.listdir("assets") if os.path.isfile("assets/" + n))
OTHER = "assets/" + [n for n in os.listdir("assets") if os.path.isfile("assets/" + n)][1]
TAG = "tags/" + os.listdir("tags")[0]
ORDER = "orders/" + os.listdir("orders")[0]
TAGGED = TAG + "/" + next(n for n in os.listdir(TAG) if os.path.isfile(f"{TAG}/{n}"))
here = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
opened = os.open(FILE, os.O_RDONLY)
directory = os.open("assets", os.O_RDONLY)


def sys_call(name: str, *arguments: object) -> Callable[[], None]:
    """A function of libc that Python does not offer."""

    def call() -> None:
        given = [a.encode() if isinstance(a, str) else a for a in arguments]
        if getattr(libc, name)(*given) < 0:
            raise OSError(ctypes.get_errno(), name)

    return call


def bind(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as unix:
        descriptor = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
        os.fchdir(descriptor)  # a socket's path is short
        try:
            unix.bind(os.path.basename(path))
        finally:
            os.fchdir(here)
            os.close(descriptor)


DATA: dict[str, Callable[[], object]] = {}
for flags in ("O_WRONLY", "O_RDWR", "O_WRONLY|O_TRUNC", "O_RDWR|O_TRUNC", "O_WRONLY|O_APPEND",
              "O_RDWR|O_APPEND", "O_RDONLY|O_TRUNC", "O_WRONLY|O_DIRECT",
              "O_RDWR|O_SYNC"):  # fmt: skip
    value = 0
    for flag in flags.split("|"):
        value |= getattr(os, flag)
    for path in (FILE, TAGGED, ".up42fs/README"):
        DATA[f"open {path} {flags}"] = partial(os.open, path, value)
for path in (".", "assets", "tags", TAG, ORDER, "cnam/SUCCESSFUL", ".up42fs"):
    new = f"{path}/new"
    DATA |= {
        f"open O_CREAT in {path}": partial(os.open, new, os.O_CREAT | os.O_RDWR),
        f"open O_EXCL in {path}": partial(os.open, new, os.O_CREAT | os.O_EXCL | os.O_WRONLY),
        f"open O_TMPFILE in {path}": partial(os.open, path, os.O_TMPFILE | os.O_RDWR),
        f"mknod in {path}": partial(os.mknod, new, stat.S_IFREG | 0o644),
        f"mkfifo in {path}": partial(os.mkfifo, new),
        f"symlink in {path}": partial(os.symlink, "x", new),
        f"bind a socket in {path}": partial(bind, new),
    }
    if path != "tags":
        DATA[f"mkdir in {path}"] = partial(os.mkdir, new)
DATA |= {
    "truncate": lambda: os.truncate(FILE, 0),
    "truncate longer": lambda: os.truncate(FILE, 1 << 40),
    "chmod": lambda: os.chmod(FILE, 0o600),
    "fchmod": lambda: os.fchmod(opened, 0o600),
    "fchmod of a directory": lambda: os.fchmod(directory, 0o700),
    "fchmodat": lambda: os.chmod(FILE, 0o600, dir_fd=here),
    "chown": lambda: os.chown(FILE, 1, 1),
    "fchown": lambda: os.fchown(opened, 1, 1),
    "lchown": lambda: os.lchown(FILE, 1, 1),
    "utimensat": lambda: os.utime(FILE, (0, 0)),
    "utimensat now": lambda: os.utime(FILE),
    "futimens": lambda: os.utime(opened, (0, 0)),
    "utimensat of a directory": lambda: os.utime("assets", (0, 0)),
    "unlink": lambda: os.unlink(FILE),
    "unlinkat": lambda: os.unlink(FILE, dir_fd=here),
    "unlink in an order": lambda: os.unlink(order_file()),
    "unlink .up42fs/README": lambda: os.unlink(".up42fs/README"),
    "rmdir": lambda: os.rmdir("assets"),
    "rmdir an order": lambda: os.rmdir(ORDER),
    "rename": lambda: os.rename(FILE, "assets/new"),
    "rename over another": lambda: os.rename(FILE, OTHER),
    "renameat2 NOREPLACE": sys_call("renameat2", AT_FDCWD, FILE, AT_FDCWD, "assets/new", 1),
    "rename of an order": lambda: os.rename(ORDER, "orders/new"),
    "rename out of a tag": lambda: os.rename(TAGGED, "assets/new"),
    "rename into a tag": lambda: os.rename(FILE, f"{TAG}/new"),
    "link elsewhere": lambda: os.link(FILE, "assets/new"),
    "linkat elsewhere": lambda: os.link(FILE, "assets/new", src_dir_fd=here, dst_dir_fd=here),
    "link into an order": lambda: os.link(FILE, f"{ORDER}/new"),
}
EDITS: dict[str, Callable[[], object]] = {
    "mkdir in tags": lambda: os.mkdir("tags/new"),
    "mkdirat in tags": lambda: os.mkdir("tags/new", dir_fd=here),
    "rmdir in tags": lambda: os.rmdir(TAG),
    "link into a tag": lambda: os.link(FILE, f"{TAG}/{os.path.basename(FILE)} "),
    "unlink in a tag": lambda: os.unlink(TAGGED),
    "rename of a tag": lambda: os.rename(TAG, "tags/new"),
    "renameat2 EXCHANGE": sys_call("renameat2", AT_FDCWD, FILE, AT_FDCWD, OTHER, RENAME_EXCHANGE),
    "rename within a tag": lambda: os.rename(TAGGED, TAG + "/new"),
}
for name in ("user.up42.title", "user.up42.tags", "user.xdg.tags", "user.xdg.comment", "user.x",
             "user.up42.id", "user.up42.undo"):  # fmt: skip
    EDITS |= {
        f"setxattr {name}": partial(os.setxattr, FILE, name, b"new"),
        f"fsetxattr {name}": partial(os.setxattr, opened, name, b"new"),
        f"lsetxattr {name}": partial(os.setxattr, FILE, name, b"x", follow_symlinks=False),
        f"setxattr CREATE {name}": partial(os.setxattr, FILE, name, b"x", os.XATTR_CREATE),
        f"removexattr {name}": partial(os.removexattr, FILE, name),
        f"fremovexattr {name}": partial(os.removexattr, opened, name),
    }


def order_file() -> str:
    return f"{ORDER}/" + next(n for n in os.listdir(ORDER) if os.path.isfile(f"{ORDER}/{n}"))


def answer(call: Callable[[], object]) -> str:
    try:
        call()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "done"


calls = DATA if sys.argv[2:] == ["data"] else DATA | EDITS
print(json.dumps({name: answer(call) for name, call in calls.items()}))
