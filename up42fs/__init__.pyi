from up42fs.library.filesystem import FileSystem as FileSystem

__version__: str
