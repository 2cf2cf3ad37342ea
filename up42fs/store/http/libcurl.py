"""libcurl through ctypes: several transfers in one thread, with bodies that bypass Python.

pycurl brings the library and its constants, but does not offer the functions that are called here.

Theory. pycurl hands over a body in pieces of 16 KiB, one TLS record each, and for each takes the
interpreter's lock, which the thread that answers the kernel needs. So libcurl's own functions are
called through ctypes: a multi handle drives all transfers of one thread, and once an answer's head
was accepted, the C library writes its body: `fwrite` to a stream that `fmemopen` made of the part's
memory. `Transfer.placed` then reads the stream's position. Until memory was given to `place`, a
body goes through Python (`on_body`): errors, unusual answers.

A body can go to a file as well: then the stream is one of the file's, without a buffer, so that
each piece is one write by the kernel, and nothing else copies it.

The memory of a stream must outlive it: `Transfer` keeps it until `end`, and a running transfer ends
only in the thread that drives it, outside of `Multi.perform`.
"""

from __future__ import annotations

import ctypes
import os
import socket
import sys
from collections.abc import Callable, Iterator
from ctypes import POINTER, byref, c_char_p, c_int, c_long, c_size_t, c_uint, c_void_p
from typing import Any

import pycurl

from up42fs.store.lanes import FilePlace

_IONBF = 2  # stdio.h: no buffer of its own
_MAXCONNECTS = 6  # CURLMOPT_MAXCONNECTS
_DONE = 1  # CURLMSG_DONE
_PASS = 1 << 28  # more than libcurl ever hands over


class _Message(ctypes.Structure):
    """`CURLMsg`."""

    _fields_ = (("what", c_int), ("easy", c_void_p), ("result", c_int))


def _load() -> ctypes.CDLL:
    """The library that pycurl uses: symbols are looked up in pycurl's dependencies."""
    extension = sys.modules.get("pycurl._pycurl", pycurl)
    library = ctypes.CDLL(str(extension.__file__))
    return library if hasattr(library, "curl_multi_poll") else ctypes.CDLL("libcurl.so.4")


def _function(library: Any, name: str, result: Any, *arguments: Any) -> Any:
    function = library[name]
    function.restype = result
    function.argtypes = arguments or None
    return function


_CURL = _load()
_LIBC = ctypes.CDLL(None)
#: Quick calls keep the interpreter's lock.
_QUICK = ctypes.PyDLL(_CURL._name)
_QUICK_C = ctypes.PyDLL(None)

_easy_init = _function(_QUICK, "curl_easy_init", c_void_p)
_easy_setopt = _QUICK["curl_easy_setopt"]  # variadic
_easy_getinfo = _function(_QUICK, "curl_easy_getinfo", c_int, c_void_p, c_int, c_void_p)
_easy_cleanup = _function(_CURL, "curl_easy_cleanup", None, c_void_p)
_slist_append = _function(_QUICK, "curl_slist_append", c_void_p, c_void_p, c_char_p)
_slist_free_all = _function(_QUICK, "curl_slist_free_all", None, c_void_p)
_multi_init = _function(_QUICK, "curl_multi_init", c_void_p)
_multi_setopt = _QUICK["curl_multi_setopt"]  # variadic
_multi_add = _function(_CURL, "curl_multi_add_handle", c_int, c_void_p, c_void_p)
_multi_remove = _function(_CURL, "curl_multi_remove_handle", c_int, c_void_p, c_void_p)
_multi_perform = _function(_CURL, "curl_multi_perform", c_int, c_void_p, c_void_p)
_multi_poll = _function(_CURL, "curl_multi_poll", c_int, c_void_p, c_void_p, c_int, c_int, c_void_p)
_multi_wakeup = _function(_QUICK, "curl_multi_wakeup", c_int, c_void_p)
_multi_read = _function(_QUICK, "curl_multi_info_read", POINTER(_Message), c_void_p, c_void_p)
_multi_cleanup = _function(_CURL, "curl_multi_cleanup", c_int, c_void_p)
_fmemopen = _function(_QUICK_C, "fmemopen", c_void_p, c_void_p, c_size_t, c_char_p)
_fdopen = _function(_QUICK_C, "fdopen", c_void_p, c_int, c_char_p)
_ferror = _function(_QUICK_C, "ferror", c_int, c_void_p)
_setvbuf = _function(_QUICK_C, "setvbuf", c_int, c_void_p, c_void_p, c_int, c_size_t)
_ftell = _function(_QUICK_C, "ftell", c_long, c_void_p)
_fclose = _function(_QUICK_C, "fclose", c_int, c_void_p)
_fwrite = ctypes.cast(_LIBC.fwrite, c_void_p)

#: size_t (*)(char *data, size_t size, size_t count, void *user)
_Callback = ctypes.CFUNCTYPE(c_size_t, c_void_p, c_size_t, c_size_t, c_void_p)
#: curl_socket_t (*)(void *user, curlsocktype purpose, struct curl_sockaddr *address)
_Opening = ctypes.CFUNCTYPE(c_int, c_void_p, c_int, c_void_p)
_NO_SOCKET = -1  # CURL_SOCKET_BAD
Value = int | str | bytes | None

_function(_CURL, "curl_global_init", c_int, c_long)(3)  # all; it counts calls, so twice is fine


class Transfer:
    """An easy handle, reused for one request after another.

    `on_header` takes a header line, `on_body` a piece of a body that is not written directly,
    `on_address` the address to connect to, or None if there is no socket for it. All return whether
    to go on, must not raise, and are called in the thread that drives the transfer.
    """

    def __init__(
        self,
        on_header: Callable[[bytes], bool],
        on_body: Callable[[bytes], bool],
        on_address: Callable[[str | None], bool],
    ):
        self._easy = _easy_init()
        if not self._easy:
            raise MemoryError("libcurl has no memory for a transfer")
        self._headers: int | None = None
        self._stream: int | None = None
        self._place: Any = None  # the memory or the file that the stream writes to
        self._began_at = 0  # the stream's first position
        self._on_header = _Callback(_taking(on_header))
        self._on_body = _Callback(_taking(on_body))
        self._on_address = _Opening(_opening(on_address))
        self.set(pycurl.OPENSOCKETFUNCTION, self._on_address)
        self.set(pycurl.HEADERFUNCTION, self._on_header)
        self.set(pycurl.WRITEFUNCTION, self._on_body)

    @property
    def key(self) -> int:
        """The key that `Multi.ended` yields for this transfer."""
        return int(self._easy)

    def set(self, option: int, value: Any) -> None:
        """Set an option: an int, text, a callback, or None for the default; raises `ValueError`."""
        if isinstance(value, int):
            given: Any = c_long(value)
        elif isinstance(value, str | bytes):
            given = c_char_p(value.encode() if isinstance(value, str) else value)
        else:
            given = value if value is not None else c_void_p()
        status = _easy_setopt(c_void_p(self._easy), c_int(option), given)
        if status:
            raise ValueError(f"libcurl refuses option {option}: error {status}")

    def set_headers(self, lines: list[str]) -> None:
        """The request's header lines."""
        old, self._headers = self._headers, None
        for line in lines:
            self._headers = _slist_append(self._headers, line.encode("latin-1"))
        self.set(pycurl.HTTPHEADER, c_void_p(self._headers))
        _slist_free_all(old)

    def place(self, place: memoryview | FilePlace) -> None:
        """Write the rest of the body there; to memory up to its end. Call from `on_header`."""
        if isinstance(place, FilePlace):
            self._place, self._began_at = place, place.offset
            fd = place.lane.duplicate(place.offset)
            self._stream = _fdopen(fd, b"w")
            if not self._stream:
                os.close(fd)
        else:
            self._began_at = 0
            self._place = (ctypes.c_char * len(place)).from_buffer(place)
            self._stream = _fmemopen(ctypes.addressof(self._place), len(place), b"w")
        if not self._stream:
            raise MemoryError("no stream for a body")
        _setvbuf(self._stream, None, _IONBF, 0)
        self.set(pycurl.WRITEDATA, c_void_p(self._stream))
        self.set(pycurl.WRITEFUNCTION, _fwrite)

    @property
    def is_placed(self) -> bool:
        """Whether the body is written directly to memory."""
        return self._stream is not None

    @property
    def placed(self) -> int:
        """Bytes of the body written to memory or to the file so far."""
        return int(_ftell(self._stream)) - self._began_at if self._stream else 0

    @property
    def is_broken(self) -> bool:
        """Whether a write to the file failed."""
        return self._stream is not None and bool(_ferror(self._stream))

    @property
    def was_sent(self) -> bool:
        """Whether the connection is established and the request was sent."""
        # Not PRETRANSFER_TIME, which is also set for a transfer that ends before it is connected.
        count = c_long()
        _easy_getinfo(self._easy, pycurl.REQUEST_SIZE, byref(count))
        return count.value > 0

    @property
    def was_connected(self) -> bool:
        """Whether somebody accepted the connection: the host, or its proxy."""
        # Not CONNECT_TIME, which libcurl 7.88 tells only after the TLS handshake.
        count = c_long()
        _easy_getinfo(self._easy, pycurl.NUM_CONNECTS, byref(count))
        return count.value > 0

    @property
    def verdict(self) -> int:
        """OpenSSL's code for what is wrong with the last certificate; 0 or 1: nothing known."""
        code = c_long()
        _easy_getinfo(self._easy, pycurl.SSL_VERIFYRESULT, byref(code))
        return code.value

    def end(self) -> None:
        """Release the memory and the link; the transfer must not be running."""
        self.set(pycurl.URL, None)
        if self._stream:
            self.set(pycurl.WRITEFUNCTION, self._on_body)
            _fclose(self._stream)
            self._stream = None
        self._place = None

    def close(self) -> None:
        """Free the handle; it cannot be used afterwards."""
        _easy_cleanup(self._easy)
        _slist_free_all(self._headers)
        self._easy = self._headers = None


class Multi:
    """Drives transfers. For one thread, except `wake`."""

    def __init__(self, connections: int) -> None:
        self._multi = _multi_init()
        if not self._multi:
            raise MemoryError("libcurl has no memory for transfers")
        self._running = c_int()
        _multi_setopt(c_void_p(self._multi), c_int(_MAXCONNECTS), c_long(connections))

    def add(self, transfer: Transfer) -> None:
        """Begin a transfer."""
        _check(_multi_add(self._multi, transfer.key))

    def remove(self, transfer: Transfer) -> None:
        """End a transfer; an unfinished one loses its connection."""
        _check(_multi_remove(self._multi, transfer.key))

    def perform(self) -> None:
        """Send and receive without blocking."""
        _check(_multi_perform(self._multi, byref(self._running)))

    def wait(self, timeout_ms: int) -> None:
        """Block until there is network activity, `wake` is called, or the timeout passes."""
        _check(_multi_poll(self._multi, None, 0, timeout_ms, None))

    def wake(self) -> None:
        """End the current wait, or the next one. Any thread."""
        _multi_wakeup(self._multi)

    def ended(self) -> Iterator[tuple[int, int]]:
        """Yield the keys of finished transfers, with libcurl's results (0 is success)."""
        left = c_int()
        while message := _multi_read(self._multi, byref(left)):
            if message.contents.what == _DONE:
                yield int(message.contents.easy), int(message.contents.result)

    def close(self) -> None:
        """Close all connections; no transfer may be left."""
        multi, self._multi = self._multi, None
        _multi_cleanup(multi)


def _taking(take: Callable[[bytes], bool]) -> Callable[[int, int, int, int], int]:
    def callback(data: int, size: int, count: int, _user: int) -> int:
        length = size * count
        return length if take(ctypes.string_at(data, length)) else (0 if length else _PASS)

    return callback


class _SocketAddress(ctypes.Structure):
    """`struct curl_sockaddr`, without the address at its end."""

    _fields_ = (("family", c_int), ("kind", c_int), ("protocol", c_int), ("length", c_uint))


def _opening(take: Callable[[str | None], bool]) -> Callable[[int, int, int], int]:
    """Opens the socket that libcurl requests, if its address is allowed."""

    def callback(_user: int, _purpose: int, address: int) -> int:
        try:
            asked = _SocketAddress.from_address(address)
            raw = ctypes.string_at(address + ctypes.sizeof(_SocketAddress), asked.length)
            # sockaddr_in: family, port, 4 bytes; sockaddr_in6: family, port, flow, 16 bytes
            at = (4, 8) if asked.family == socket.AF_INET else (8, 24)
            if not take(socket.inet_ntop(asked.family, raw[slice(*at)])):
                return _NO_SOCKET
        except (OSError, ValueError):
            return _NO_SOCKET  # not an IP address family
        try:
            return socket.socket(asked.family, asked.kind, asked.protocol).detach()
        except OSError:
            take(None)
            return _NO_SOCKET

    return callback


def _check(status: int) -> None:
    if status:
        raise RuntimeError(f"libcurl's multi interface failed: error {status}")
