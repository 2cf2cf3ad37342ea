"""STAC (being written)."""

from up42fs.emulator.service import Route

ROUTES: tuple[Route, ...] = ()
