"""Emulators in the test's own nursery, with a client that signs in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from emulator_support import Emulator, Start, small_storage

from up42fs.emulator import EmulatorSettings, Faults, Storage, serve
from up42fs.emulator.sample_files import ensure_files


@pytest.fixture
async def start(nursery: trio.Nursery) -> AsyncIterator[Start]:
    """Start emulators: `await start(storage=..., link_life_s=1.0)`."""
    clients: list[httpx.AsyncClient] = []

    async def start_one(storage: Storage | None = None, **switches: Any) -> Emulator:
        settings = EmulatorSettings(faults=Faults(**switches))
        urls = await nursery.start(serve, settings, storage or small_storage())
        client = httpx.AsyncClient(trust_env=False, timeout=20)
        clients.append(client)
        emulator = Emulator(urls, client)
        await emulator.sign_in()
        return emulator

    yield start_one
    for client in clients:
        await client.aclose()


@pytest.fixture
async def emulator(start: Start) -> Emulator:
    """An emulator of the small storage."""
    return await start()


@pytest.fixture(scope="session")
def sample_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample files, made once a session."""
    directory = tmp_path_factory.mktemp("sample") / "demo"
    ensure_files(directory)
    return directory
