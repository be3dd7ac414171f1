"""What keeps other pages from using the studio through the user's own browser."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias
from urllib.parse import urlsplit

_Scope: TypeAlias = MutableMapping[str, Any]
_App: TypeAlias = Callable[[_Scope, Any, Any], Awaitable[None]]
_LOCAL_NAMES = ("127.0.0.1", "localhost", "::1")
# Everything that the page loads comes from the page itself.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "frame-ancestors 'none'; form-action 'self'; base-uri 'self'"
)


class SameOrigin:
    """Answers only requests of its own page.

    A page elsewhere can send requests to 127.0.0.1 without reading the answers, or read them under
    a name of its own that leads there (DNS rebinding). Both say so: by ``Origin``, by ``Host``.
    """

    def __init__(self, app: _App, *, is_local: bool) -> None:
        self.app, self.is_local = app, is_local

    async def __call__(self, scope: _Scope, receive: Any, send: Any) -> None:
        """Hand a request on, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        is_own = origin is None or urlsplit(origin).netloc == host
        if not is_own or (self.is_local and urlsplit(f"//{host}").hostname not in _LOCAL_NAMES):
            await _refuse(scope, send)
            return

        async def send_guarded(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                added = [
                    (b"content-security-policy", _POLICY.encode()),
                    (b"referrer-policy", b"no-referrer"),
                    (b"x-content-type-options", b"nosniff"),
                ]
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        await self.app(scope, receive, send_guarded)


async def _refuse(scope: _Scope, send: Any) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    kind = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": 403, "headers": kind})
    text = "This is another page's request, or another name for this machine; open the studio by "
    await send({"type": "http.response.body", "body": f"{text}its own address.\n".encode()})
