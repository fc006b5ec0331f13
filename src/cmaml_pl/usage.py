"""What the command line says of itself: its verbs and keys, and their completion in a shell."""

import inspect
import json
import sys
import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from cmaml_pl.configuration.loading import arms, experiments, studies, sweeps
from cmaml_pl.configuration.merging import flatten
from cmaml_pl.configuration.registry import REGISTRIES
from cmaml_pl.configuration.schema import Config
from cmaml_pl.errors import UserError
from cmaml_pl.studies.run import KEYS

VERB_KEYS: dict[str, tuple[str, ...]] = {
    "study": KEYS,
    "evaluate": ("run", "steps", "out", "split", "jobs", "quiet", "deployment.method", "deployment.checkpoint"),
    "agent": ("sweep", "count"),
    "export": ("ckpt", "out"),
}
"""Verb -> its own keys."""

CONFIGURED = ("train", "config", "sweep", "study")
"""Verbs that take the keys of the configuration."""

SHELLS = {
    "bash": ("", "-o default"),
    "zsh": ("autoload -U +X compinit bashcompinit && compinit && bashcompinit\n", "-o default -o nospace"),
}
"""Shell -> what it needs first, and options of `complete`; names of files are completed where nothing else is known."""

# bash takes `=` for the end of a word, zsh does not
SCRIPT = """{first}_cmaml() {{
    local line=${{COMP_LINE:0:$COMP_POINT}} verb= words= prefix= keys="{keys}"
    local rest=${{line#* }} word=${{line##* }}
    [[ $rest != *" "* ]] || verb=${{rest%% *}}
    case "$verb $word" in
        {cases}
    esac
    [[ $word != *=* || $COMP_WORDBREAKS == *=* ]] || prefix=${{word%%=*}}=
    COMPREPLY=($(compgen -P "$prefix" -W "$words" -- "${{word#*=}}"))
    [[ ${{COMPREPLY[0]-}} != *= ]] || compopt -o nospace 2> /dev/null
}}
complete {options} -F _cmaml cmaml
"""


Verbs = Mapping[str, Callable[..., object]]


def overview(verbs: Verbs) -> str:
    """The verbs with what each does, and the names that they take."""
    lines = [f"  {name:<10} {(inspect.getdoc(verb) or '').splitlines()[0]}" for name, verb in verbs.items()]
    named = {"experiments": experiments(), "arms": arms(), "sweeps": sweeps(), "studies": studies()}
    names = "\n".join(_block(f"{kind}:", ", ".join(known), 15) for kind, known in named.items())
    example = f"{program()} train exp=nav2d arm=cmaml seed=1 train.meta_iterations=50"
    return "\n".join([f"{program()} VERB key=value ...\n", *lines, "", names, f"for example: {example}"])


def verb_help(name: str, verbs: Verbs) -> str:
    """What a verb does and takes."""
    takes = "bash|zsh" if name == "completion" else "key=value ..."
    text = f"{program()} {name} {takes}\n\n{inspect.getdoc(verbs[name]) or ''}"
    if name not in ("train", "config"):
        return text
    known = {"experiments": experiments(), "arms": arms(), **{item.key: list(item) for item in REGISTRIES.values()}}
    names = "\n".join(_block(f"{kind}:", ", ".join(which), 21) for kind, which in known.items())
    return (
        f"{text}\n\n{names}\n\nKeys, with the values that hold where the experiment sets no other:\n{_defaults()}\n\n"
        f"A method or family has keys of its own: {program()} config exp=NAME inner.method=NAME prints all that hold."
    )


def program() -> str:
    """What this program was called by."""
    return "cmaml" if Path(sys.argv[0]).stem == "cmaml" else "python -m cmaml_pl"


def _defaults() -> str:
    """The keys of the configuration with their default values, section by section."""
    sections: dict[str, list[str]] = defaultdict(list)
    for key, value in flatten(Config()).items():
        section, dot, name = key.partition(".")
        sections[f"{section}." if dot else ""].append(f"{name or section}={_written(value)}")
    sections["trainer."] = ["the arguments of Lightning's Trainer, such as devices"]
    return "\n".join(_block(section, " ".join(keys), 15) for section, keys in sections.items())


def _written(value: Any) -> str:
    """A value as it is written on the command line."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":")).replace("Infinity", ".inf")


def _block(head: str, words: str, indent: int) -> str:
    """Words beside their head, in lines that fit a terminal."""
    first = f"  {head}".ljust(indent)
    return textwrap.fill(
        words,
        100,
        initial_indent=first,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def completion_script(shell: str, verbs: Iterable[str]) -> str:
    """The code by which a shell completes verbs, keys, and the names of experiments, arms, studies and methods.

    It holds the words themselves, because a program that imports PyTorch is too slow to be asked for them.

    Raises:
        UserError: there is no code for the shell.
    """
    if shell not in SHELLS:
        raise UserError(f"completion takes the name of a shell, {' or '.join(SHELLS)}, not {shell!r}.")
    first, options = SHELLS[shell]
    named = {"exp": experiments(), "arm": arms(), "study": studies()}
    named |= {registry.key: list(registry) for registry in REGISTRIES.values()}
    words = {
        '" "*': " ".join(verbs),
        '"sweep exp="*': " ".join(sweeps()),
        **{f'*" {key}="*': " ".join(names) for key, names in named.items()},
        "*=*": "",
        **{f'"{verb} "*': _words(verb) for verb in verbs},
        '"completion "*': " ".join(SHELLS),
    }
    cases = "\n        ".join(f'{pattern}) words="{known}" ;;' for pattern, known in words.items())
    return SCRIPT.format(first=first, options=options, cases=cases, keys=" ".join(f"{key}=" for key in all_keys()))


def _words(verb: str) -> str:
    """The keys that may follow a verb, as the script writes them; $keys are those of the configuration."""
    own = [f"{key}=" for key in VERB_KEYS.get(verb, ())]
    return " ".join([*own, *(["$keys"] if verb in CONFIGURED else [])])


def all_keys() -> list[str]:
    """The dotted keys of the configuration, with those of all methods and families."""
    found = set(flatten(Config()))
    for section, registry in REGISTRIES.items():
        for kind in registry.own.values():
            found |= {f"{section}.{key}" for key in flatten(vars(kind()))}
    return sorted(found)
