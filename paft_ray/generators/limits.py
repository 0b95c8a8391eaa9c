"""Limits of what an endpoint is asked: requests a minute, generated tokens in all."""

from __future__ import annotations

import asyncio
import time


class Rate:
    """Spaces requests evenly."""

    def __init__(self, per_minute: float | None) -> None:
        self.interval_s = 60 / per_minute if per_minute else 0.0
        self.next_s = 0.0

    async def turn(self) -> None:
        """Returns when the next request may go out."""
        now = time.monotonic()
        at = max(now, self.next_s)
        self.next_s = at + self.interval_s
        await asyncio.sleep(at - now)


class Tokens:
    """Keeps generated tokens under a limit: what is under way is reserved at its longest."""

    def __init__(self, limit: int | None) -> None:
        self.left = limit
        self.under_way = 0
        self.changed = asyncio.Condition()

    async def reserve(self, count: int) -> bool:
        """True once `count` tokens are set aside, False where even an end of all that is under way could not give
        them."""
        if self.left is None:
            return True
        async with self.changed:
            while self.left < count:
                if not self.under_way:
                    return False
                await self.changed.wait()
            self.left -= count
            self.under_way += 1
        return True

    async def settle(self, reserved: int, spent: int) -> None:
        """Gives back what was not spent."""
        if self.left is None:
            return
        async with self.changed:
            self.left += reserved - spent
            self.under_way -= 1
            self.changed.notify_all()
