"""What the command line says of itself: its keys, and their completion in a shell."""

from collections.abc import Iterable

from cmaml_pl.configuration.loading import arms, experiments, studies, sweeps
from cmaml_pl.configuration.merging import flatten
from cmaml_pl.configuration.registry import DEPLOYMENTS, INNER_METHODS, OUTER_METHODS, TASK_FAMILIES
from cmaml_pl.configuration.schema import Config
from cmaml_pl.errors import UserError

REGISTRIES = {"tasks": TASK_FAMILIES, "inner": INNER_METHODS, "outer": OUTER_METHODS, "deployment": DEPLOYMENTS}
"""Section -> what it chooses from."""

VERB_WORDS = {
    "train": "$keys",
    "config": "$keys",
    "sweep": "$keys",
    "study": "study= arms= seeds= steps= jobs= part= scale= out= $keys",
    "evaluate": "run= steps= out= split= quiet= deployment.method=",
    "agent": "sweep= count=",
    "export": "ckpt= out=",
    "completion": "bash zsh",
}
"""Verb -> the words that may follow it; $keys are those of the configuration."""

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
        **{f'"{verb} "*': known for verb, known in VERB_WORDS.items()},
    }
    cases = "\n        ".join(f'{pattern}) words="{known}" ;;' for pattern, known in words.items())
    return SCRIPT.format(first=first, options=options, cases=cases, keys=" ".join(f"{key}=" for key in all_keys()))


def all_keys() -> list[str]:
    """The dotted keys of the configuration, with those of all methods and families."""
    found = set(flatten(Config()))
    for section, registry in REGISTRIES.items():
        for kind in registry.own.values():
            found |= {f"{section}.{key}" for key in flatten(vars(kind()))}
    return sorted(found)
