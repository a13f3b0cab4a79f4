"""SIGTERM and SIGINT as the end of serving, also on Windows, where an event loop takes no handlers."""

from __future__ import annotations

import asyncio
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stop_signals(stop: Callable[[], None]) -> Generator[None]:
    """Call `stop` on the running loop at the first SIGTERM or SIGINT, and ignore every later one.

    Later ones stay ignored after the block too: hosts send SIGINT, SIGTERM and SIGKILL in quick succession, and the
    caller's own cleanup must not be cut short by the second. Without a signal the former handlers come back.
    Outside the main thread, where Python handles no signals, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    is_stopping = False

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        nonlocal is_stopping
        if not is_stopping:
            is_stopping = True
            loop.call_soon_threadsafe(stop)

    former = {number: signal.signal(number, on_signal) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        if not is_stopping:
            for number, handler in former.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
