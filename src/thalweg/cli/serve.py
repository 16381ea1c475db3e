"""``thalweg serve``."""

from pathlib import Path
from typing import Annotated

import typer

from thalweg.cli.console import Quiet, Terminal
from thalweg.extras import needs


def command(
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Folder of a study, or a folder that contains studies.")
    ] = Path(),
    host: Annotated[
        str, typer.Option(help="Address to listen on. Any address but loopback requires a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 chooses a free one.")] = 8642,
    open: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    quiet: Quiet = False,
) -> None:
    """Show studies in a browser, during the run and afterwards, with their progress and the figures of the report.

    Example: `thalweg serve . --port 0 --open`

    The server writes nothing. Only this machine can connect, unless `--host` names another address. In that case, a
    token is printed once, and every page asks for it. The connection is plain HTTP: on a network that you do not trust,
    use an SSH tunnel to loopback instead.

    Exit codes: 0 stopped with Ctrl-C; 2 invalid input.
    """
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}: name one that contains studies")
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
        console.print(f"with the token: {address}#{token}", markup=False, highlight=False, soft_wrap=True)
    if open:
        import webbrowser

        webbrowser.open(address)  # without the token, which other users could read in the list of processes
    try:
        server(folder, listener, token).run(sockets=[listener])
    except KeyboardInterrupt:
        console.print("stopped", highlight=False)
