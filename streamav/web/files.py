"""Sends a file that may be deleted at any moment, in whole or in parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.responses import Response

    from streamav.web.guard import Receive, Scope, Send

__all__ = ["FileOrGone"]


class FileOrGone:
    """An answer (ASGI) that sends a file, or another answer where the file is deleted before anything of it was sent."""

    def __init__(self, path: Path, media_type: str, gone: Callable[[], Response]) -> None:
        """Store what is sent; *gone* makes the other answer."""
        self._path, self._media_type, self._gone = path, media_type, gone

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file; a range where the request asks for one."""
        from starlette.responses import FileResponse

        begun = False

        async def noted(message: Any) -> None:  # noqa: ANN401 - a message of ASGI
            nonlocal begun
            begun = True
            await send(message)

        whole = FileResponse(self._path, media_type=self._media_type, content_disposition_type="inline", filename=self._path.name)
        try:
            await whole(scope, receive, noted)
        except (FileNotFoundError, RuntimeError):  # Starlette's own error for a file that is not there
            if begun:
                raise
            await self._gone()(scope, receive, send)
