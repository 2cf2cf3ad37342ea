"""Names in the hidden directory `.up42fs/` of a mount. Loads nothing: commands need only these."""

from __future__ import annotations

CONTROL_DIR = ".up42fs"
STATUS = "status.json"
#: The control directory's list of edits. Setting UNDO on it to an operation's number undoes that.
CHANGES = "changes"
#: The last lines of the log.
LOG = "log"
UNDO = "user.up42.undo"
#: Following this link of the control directory makes the mount look for changes at once. It is a
#: link because a mount that is read-only for the kernel has no file that could be touched.
REFRESH = "refresh"
