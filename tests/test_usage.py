"""What the command line says of itself."""

import subprocess

import pytest

from cmaml_pl.cli import VERBS
from cmaml_pl.errors import UserError
from cmaml_pl.usage import CONFIGURED, VERB_KEYS, completion_script


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """A function: what bash offers at the end of a line."""
    script = tmp_path_factory.mktemp("completion") / "cmaml"
    script.write_text(completion_script("bash", VERBS))
    code = f"""
set -u; . '{script}'; complete -p cmaml > /dev/null
COMP_LINE=$1; COMP_POINT=${{#1}}; COMP_WORDS=($1); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_cmaml; echo "${{COMPREPLY[@]-}}"
"""

    def offered(line: str) -> list[str]:
        done = subprocess.run(["bash", "-c", code, "bash", line], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.split()

    return offered


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("cmaml ", list(VERBS)),
        ("cmaml tr", ["train"]),
        ("/some/where/cmaml comp", ["completion"]),
        ("cmaml train exp=hidden_", ["hidden_goal", "hidden_goal_hard"]),
        ("cmaml train exp=nav2d arm=meta_", ["meta_cpo", "meta_srl"]),
        ("cmaml sweep exp=", ["nav2d", "point_goal"]),
        ("cmaml study study=nav", ["nav2d"]),
        ("cmaml study st", ["study=", "steps="]),
        ("cmaml train exp=nav2d inner.trust_region.max", ["inner.trust_region.max_kl="]),
        ("cmaml config tasks.env", ["tasks.env_id="]),
        ("cmaml train inner.method=f", ["focops"]),
        ("cmaml export c", ["ckpt="]),
        ("cmaml evaluate q", ["quiet="]),
        ("cmaml completion ", ["bash", "zsh"]),
        ("cmaml train run.resume=", []),  # where bash looks for a file
        ("cmaml help ", []),
    ],
)
def test_bash_completes_verbs_keys_and_names(complete, line, offered):
    assert complete(line) == offered


def test_each_verb_is_completed_and_another_shell_is_refused():
    assert {*VERB_KEYS, *CONFIGURED} == set(VERBS) - {"help", "completion"}
    assert "bashcompinit" in completion_script("zsh", VERBS)
    with pytest.raises(UserError, match="takes the name of a shell, bash or zsh, not 'fish'"):
        completion_script("fish", VERBS)
