"""The promises of `test_mount_life` once more, with the handshake left to libfuse."""

from __future__ import annotations

import pytest
from test_mount_life import (  # noqa: F401  (collected here again, under the fixture below)
    mountpoint,
    test_a_busy_mount_point,
    test_a_crashed_mount_is_cured_by_unmount,
    test_a_missing_fuse_device,
    test_as_mount_8_calls_it,
    test_foreground_ends_with_status_0_on_ctrl_c,
    test_fusermount_unmounts_cleanly,
    test_mount_t_fuse_up42fs,
    test_mounting_again_and_again,
    test_signals_unmount_cleanly,
    test_unmount_leaves_nothing,
    test_unmount_of_a_busy_mount_says_so_and_lazy_helps,
)

from up42fs.fuse.session import HANDSHAKE_VARIABLE

pytestmark = pytest.mark.mount


@pytest.fixture(autouse=True)
def plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HANDSHAKE_VARIABLE, "off")


def test_it_is_off(sample, mount) -> None:
    assert mount(sample).status()["kernel"]["parallel_dirops"] is False
