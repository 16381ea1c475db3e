"""``thalweg serve``."""

from pathlib import Path
from typing import Annotated

import typer

from thalweg.cli.console import Terminal
from thalweg.extras import needs


def command(
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="A study's folder, or one with studies in it.")
    ] = Path(),
    host: Annotated[str, typer.Option(help="Address to listen on; any but loopback asks for a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 picks a free one.")] = 8642,
    open: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Show studies live in a browser, while they run and after: standing, progress, time left, the report's figures.

    Example: `thalweg serve . --port 0 --open`

    Nothing is written. Only this machine can connect, unless `--host` names another address: then a token is printed
    here, once, and every page asks for it. It travels as plain HTTP: beyond a network that you trust, an SSH tunnel
    to loopback is the better way.

    Exit codes: 0 stopped with Ctrl-C, 2 bad input.
    """
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}: give one that holds studies")
    with needs("serve", "serve"):
        from thalweg.serve import listen, server, token_for
    listener = listen(host, port)
    token = token_for(listener)
    name, bound = (host if token else listener.getsockname()[0]), listener.getsockname()[1]
    address = f"http://[{name}]:{bound}/" if ":" in name else f"http://{name}:{bound}/"
    console = Terminal()
    console.print(f"studies in {folder.resolve()}: {address}", markup=False, highlight=False, soft_wrap=True)
    if token:
        # In the fragment it reaches neither a server's log nor a proxy's.
        console.print(f"with its token: {address}#{token}", markup=False, highlight=False, soft_wrap=True)
    if open:
        import webbrowser

        webbrowser.open(address)  # without the token, which other users could read in the list of processes
    try:
        server(folder, listener, token).run(sockets=[listener])
    except KeyboardInterrupt:
        console.print("stopped", highlight=False)
