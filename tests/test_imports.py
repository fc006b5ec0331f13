"""What users name by an import path."""

import pytest

from cmaml_pl.envs.gymnasium_env import GymnasiumWorld
from cmaml_pl.errors import UserError
from cmaml_pl.imports import import_object


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Name of a module that ends the program when it is imported."""
    (tmp_path / "a_script.py").write_text("import sys\n\nsys.exit('usage: a_script FILE')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return "a_script"


def test_a_module_that_ends_the_program_is_an_error_with_its_place(script):
    told = r"SystemExit: usage: a_script FILE \(a_script\.py, line 3\)"
    with pytest.raises(UserError, match=rf"policy\.actor is 'a_script:Net', which cannot be imported: {told}"):
        import_object("policy.actor", f"{script}:Net")
    with pytest.raises(UserError, match=rf"tasks\.env_id is 'a_script:My-v0', which Gymnasium cannot make: {told}"):
        GymnasiumWorld(f"{script}:My-v0", {}, 5, "attributes", None)
