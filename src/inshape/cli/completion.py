"""What the shell is offered when a word is completed; nothing heavy is loaded for it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from ..errors import RequestError, check_choice
from ..requests import Option, Positional, options_of
from .commands import COMMANDS, command_for

_BASH = """\
_inshape() {
  local IFS=$'\\n'
  COMPREPLY=($(inshape --complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _inshape inshape
"""
_ZSH = """\
#compdef inshape
_inshape() {
  local -a words_offered
  words_offered=("${(@f)$(inshape --complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  [[ -n "$words_offered" ]] && compadd -a words_offered || _files
}
compdef _inshape inshape
"""
_FISH = """\
complete -c inshape -a '(inshape --complete (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'
"""
_POWERSHELL = """\
Register-ArgumentCompleter -Native -CommandName inshape -ScriptBlock {
  param($word, $ast, $position)
  $words = @($ast.CommandElements | Select-Object -Skip 1 | ForEach-Object { "$_" })
  if ($word -eq "") { $words += "" }
  inshape --complete @words 2>$null | ForEach-Object { $_ }
}
"""
_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH, "powershell": _POWERSHELL}
_PLACES = {
    "bash": "~/.bash_completions/inshape.sh",
    "zsh": "~/.zfunc/_inshape",
    "fish": "~/.config/fish/completions/inshape.fish",
    "powershell": "~/.config/powershell/inshape.ps1",
}
_SOURCED_FROM = {
    "bash": ("~/.bashrc", "source {place}"),
    "zsh": ("~/.zshrc", "autoload -Uz compinit; compinit; source {place}"),
    "powershell": ("~/.config/powershell/Microsoft.PowerShell_profile.ps1", ". {place}"),
}


def script(shell: str | None = None) -> str:
    """The script that lets a shell complete words."""
    return _SCRIPTS[_shell(shell)]


def install(shell: str | None = None) -> str:
    """Write the script where the shell finds it; what was there already stays."""
    name = _shell(shell)
    place = Path(_PLACES[name]).expanduser()
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(_SCRIPTS[name], encoding="utf-8")
    if name in _SOURCED_FROM:
        start, line = _SOURCED_FROM[name]
        file, wanted = Path(start).expanduser(), line.format(place=place)
        known = file.read_text(encoding="utf-8") if file.exists() else ""
        if wanted not in known:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a", encoding="utf-8") as opened:
                opened.write(f"\n{wanted}\n")
    return f"{name} completion installed in {place}; it works in new shells"


def complete(words: Sequence[str]) -> list[str]:
    """What may stand in the place of the last of the words typed so far.

    Example:
        >>> complete(["ins"]), complete(["inspect", "NAS"])
        (['inspect'], ['NASNetMobile', 'NASNetLarge'])
        >>> complete(["inspect", "NASNetMobile", "--strat"]), complete(["train", "--augment", "l"])
        (['--strategy'], ['light'])
        >>> complete(["export", "runs/a", "--to", "litert,o"])
        ['litert,onnx', 'litert,openvino']
    """
    *before, last = words or [""]
    offered: Iterable[str] = COMMANDS
    if before and before[0] not in COMMANDS:
        offered = ()
    elif before and last.startswith("-"):
        offered = _flags(before)
    elif before:
        return _values(_option_after(before), last)
    return [word for word in offered if word.startswith(last)]


def _option_after(words: Sequence[str]) -> Option | None:
    """The option that the next word is the value of."""
    command, behind = command_for(list(words))
    options = [option for option in options_of(command.kind) if option.flag]
    named = next((o for o in options if f"--{o.flag}" == words[-1]), None)
    return named or (None if behind else next((o for o in options if o.mark(Positional)), None))


def _flags(words: Sequence[str]) -> list[str]:
    command, behind = command_for(list(words))
    resume = ["--resume"] * (words[0] == "train" and not behind)
    flags = [f"--{option.flag}" for option in options_of(command.kind) if option.flag]
    return [*flags, *resume, "--json", "--wide", "--debug", "--help"]


def _values(option: Option | None, begun: str) -> list[str]:
    """The words that an option can begin so with; of several, the last one is completed."""
    if option is None:
        return []
    if option.choices:
        return [choice for choice in option.choices if choice.startswith(begun)]
    before, comma, last = begun.rpartition(",")
    names = option.written.names or _NAMES.get(option.name, tuple)()
    return [f"{before}{comma}{name}" for name in names if name.startswith(last)]


def _backbone_names() -> Iterable[str]:
    from ..backbones import backbones

    return (backbone.name for backbone in backbones())


def _channel_rules() -> Iterable[str]:
    from ..weights.channels import CHANNEL_RULES

    return (rule for rule in CHANNEL_RULES if rule != "keep")


def _strategy_names() -> Iterable[str]:
    from ..strategies.decide import STRATEGIES

    return STRATEGIES


_NAMES: Mapping[str, Callable[[], Iterable[str]]] = {
    "backbone": _backbone_names,
    "backbones": _backbone_names,
    "channels": _channel_rules,
    "strategies": _strategy_names,
}


def _shell(name: str | None) -> str:
    running = re.sub(r"^pwsh$", "powershell", name or Path(os.environ.get("SHELL", "")).name)
    if not running:
        raise RequestError(f"no shell named; expected one of {', '.join(_SCRIPTS)}; name yours")
    check_choice("shell", running, _SCRIPTS)
    return running
