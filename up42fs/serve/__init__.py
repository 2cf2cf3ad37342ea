"""`up42fs serve`: an engine's tree over HTTP, for programs that cannot mount it.

A file is answered by a redirect to a fresh presigned link, so its bytes do not pass through here;
or, if asked for, with bytes from the engine's cache. Documents are answered with addresses in place
of relative paths. Knows the engine and HTTP; nothing of FUSE, of commands or of UP42's API.

`addresses`, `conditions`, `documents`, `pages` and `gate` decide, without I/O; `files` and `app`
answer; `peers` and `connections` watch over sockets; `server` puts them together.
"""
