"""The storage as an fsspec file system, for Python programs; `up42fs.FileSystem` is its face.

Each account has one engine on demand in each process, in a thread with a trio loop of its own
(`runner`). Callers in other threads, and in asyncio loops, wait for its answers. `filesystem` knows
fsspec; `calls` knows the engine; `spans`, `facts` and `buffer` decide and do no I/O.
"""
