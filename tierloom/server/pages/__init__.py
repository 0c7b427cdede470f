"""The pages of the server. They load nothing from elsewhere, and run no script but their own."""

import secrets
from importlib import resources
from pathlib import Path
from typing import Final

import swagger_ui_bundle  # type: ignore[import-untyped]
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

from tierloom.server.refusals import Refused

_NONCE: Final = "@nonce@"
_SWAGGER: Final = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}


async def search_page(request: Request) -> Response:
    return _page("search.html", "default-src 'none'; connect-src 'self'; img-src data:; {own}")


async def docs_page(request: Request) -> Response:
    """Swagger UI, from the files that its bundle brings."""
    return _page("docs.html", "default-src 'none'; connect-src 'self'; img-src 'self' data:; {own}")


async def swagger_file(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in _SWAGGER:
        raise Refused(404, "NotFound", "no such file")
    return FileResponse(Path(swagger_ui_bundle.swagger_ui_path) / name, media_type=_SWAGGER[name])


def _page(name: str, policy: str) -> HTMLResponse:
    """A page whose scripts and styles run by a nonce that nobody can know before (CSP level 3)."""
    nonce = secrets.token_urlsafe(16)
    html = resources.files(__name__).joinpath(name).read_text(encoding="utf-8").replace(_NONCE, nonce)
    own = (
        f"script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return HTMLResponse(html, headers={"Content-Security-Policy": policy.format(own=own)})
