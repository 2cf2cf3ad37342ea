"""Edits of titles and tags (`-o rw`): applied to the newest state, journalled, undone."""
