"""What the shell is offered when a word is completed; nothing heavy is loaded for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

PROGRAM = "inshape"
_SHELLS = ("bash", "zsh", "fish", "powershell", "pwsh")


def words(*names: str) -> Callable[[str], list[str]]:
    """Complete one of a few words.

    Args:
        names: the words.

    Returns:
        What Typer's ``autocompletion=`` takes.

    Example:
        >>> words("rebuild", "resize", "restride")("re")
        ['rebuild', 'resize', 'restride']
    """

    def begun(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    return begun


def backbone_names(incomplete: str) -> list[str]:
    """Complete a backbone's name; where none begins so, the shell goes on to files.

    Args:
        incomplete: what was typed.

    Returns:
        Names.

    Example:
        >>> backbone_names("NAS")
        ['NASNetMobile', 'NASNetLarge']
    """
    from ..backbones import backbones

    return [b.name for b in backbones() if b.name.startswith(incomplete)]


def format_names(incomplete: str) -> list[str]:
    """Complete the last of the export formats, which stand with commas between.

    Args:
        incomplete: what was typed.

    Returns:
        All that was typed, with the last name completed.

    Example:
        >>> format_names("litert,o")
        ['litert,onnx', 'litert,openvino']
    """
    from ..export.formats import FORMATS

    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in FORMATS if name.startswith(last)]


def for_named_shell(arguments: Sequence[str]) -> bool:
    """Carry out ``--show-completion SHELL`` or ``--install-completion SHELL``.

    Typer's own options take no shell, they find out which one is running; that does not work from a
    script.

    Args:
        arguments: the words after the program's name.

    Returns:
        Whether that was what was asked for.
    """
    asked = tuple(arguments)
    if len(asked) != 2 or asked[1] not in _SHELLS:
        return False
    # Typer has no public name for these two, which its own options call.
    from typer.completion import (  # pyright: ignore[reportPrivateImportUsage]
        get_completion_script,  # pyright: ignore[reportPrivateImportUsage]
        install,  # pyright: ignore[reportPrivateImportUsage]
    )

    variable = f"_{PROGRAM.upper()}_COMPLETE"
    if asked[0] == "--show-completion":
        print(get_completion_script(prog_name=PROGRAM, complete_var=variable, shell=asked[1]))
        return True
    if asked[0] == "--install-completion":
        _, path = install(shell=asked[1], prog_name=PROGRAM, complete_var=variable)
        print(f"{asked[1]} completion installed in {path}; it works in new shells")
        return True
    return False
