"""Edits of titles and tags (`-o rw`): carried out on the newest state, journalled, undone."""
