"""Makes a component of a plugin, with componentize-py.

    python -m hookloom_plugin.build --kind mapper|reshaper --out FILE [--source FOLDER]

Works in the plugin's folder, whose ``plugin.py`` it takes unless ``--source`` names another. ``hookloom plugin build`` runs it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent

INTERFACES = {"mapper": "Mapping", "reshaper": "Reshaping"}

# The component's own module. What the SDK changes about the language holds for the plugin's first line already.
COMPONENT = """\
from hookloom_plugin import component
import plugin
import hookloom_plugin
if {kind!r} not in hookloom_plugin._plugin:
    raise SystemExit("plugin.py has no function under @{kind}")
{interface} = component.{interface}
component.freeze({kind!r})
"""

# The compiler as a program. What went wrong is told as the plugin's own traceback; `/1/` is where it sees the plugin's folder.
COMPILER = """\
import sys, componentize_py
try:
    componentize_py.script()
except AssertionError as error:
    sys.exit(str(error).partition("\\n\\nCaused by")[0].replace('"/1/', '"').rstrip())
"""


def main() -> None:
    arguments = argparse.ArgumentParser(prog="hookloom-plugin-build")
    arguments.add_argument("--kind", required=True, choices=INTERFACES)
    arguments.add_argument("--out", required=True, type=Path)
    arguments.add_argument("--source", default=Path(), type=Path)
    options = arguments.parse_args()
    if not (options.source / "plugin.py").is_file():
        sys.exit(f"error: there is no {options.source / 'plugin.py'} here")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        module = COMPONENT.format(kind=options.kind, interface=INTERFACES[options.kind])
        (Path(folder) / "hookloom_component.py").write_text(module)
        command = [sys.executable, "-c", COMPILER, "-d", HERE / "wit", "-w", options.kind]
        # A stub ends the call where the language asks for a file, a clock or the network.
        command += ["componentize", "hookloom_component", "--stub-wasi", "-o", options.out]
        for path in (folder, options.source, HERE.parent):
            command += ["-p", path]
        # The compiler's own backtrace says nothing about a plugin.
        sys.exit(subprocess.run(command, env={**os.environ, "RUST_BACKTRACE": "0"}).returncode)


if __name__ == "__main__":
    main()
