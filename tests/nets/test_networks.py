import torch
from tests.helpers import make_actor

from cmaml_pl.nets.networks import ObservationNormaliser


def test_the_normaliser_merges_batches_as_if_they_were_one():
    data = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 5.0, 0.1]) + 2.0
    normaliser = ObservationNormaliser(3)
    for batch in data.split([7, 193, 300]):
        normaliser.update(batch)
    torch.testing.assert_close(normaliser.mean, data.double().mean(0))
    torch.testing.assert_close(normaliser.variance, data.double().var(0, correction=0))


def test_stacked_parameters_give_what_each_row_gives_alone():
    actor = make_actor(hidden=(6, 4))
    theta = actor.vector() + 0.1 * torch.randn(3, actor.vector().numel(), generator=torch.Generator().manual_seed(1))
    observation = torch.randn(3, 9, 3, generator=torch.Generator().manual_seed(2))
    loc, scale = actor.stacked(theta, actor.normaliser(observation))
    for p in range(3):
        actor.load_vector(theta[p])
        expected_loc, expected_scale = actor(observation[p])
        torch.testing.assert_close(loc[p], expected_loc)
        torch.testing.assert_close(scale[p], expected_scale)


def test_the_vector_is_a_copy_and_goes_back_in():
    actor = make_actor()
    theta = actor.vector()
    theta += 1.0
    assert not torch.equal(actor.vector(), theta)
    actor.load_vector(theta)
    torch.testing.assert_close(actor.vector(), theta)
    assert torch.equal(theta[actor.log_std_slice], actor.log_std.detach())


def test_the_normaliser_is_saved_with_the_policy():
    actor = make_actor()
    actor.normaliser.update(torch.randn(20, 3, generator=torch.Generator().manual_seed(0)))
    other = make_actor(seed=5)
    other.load_state_dict(actor.state_dict())
    observation = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(other(observation), actor(observation))


def test_first_weights_depend_on_the_seed_alone():
    assert torch.equal(make_actor(seed=3).vector(), make_actor(seed=3).vector())
    assert not torch.equal(make_actor(seed=3).vector(), make_actor(seed=4).vector())


def test_a_context_moves_the_actions_and_can_be_folded_into_the_bias():
    actor = make_actor(context_size=3)
    observation = torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
    before = actor(observation)[0]
    with torch.no_grad():
        actor.context.copy_(torch.tensor([1.0, -2.0, 0.5]))
    loc, scale = actor(observation)
    assert (loc - before).abs().max() > 1e-3
    stacked, _ = actor.stacked(actor.vector()[None], actor.normaliser(observation)[None])
    torch.testing.assert_close(stacked[0], loc)
    folded = actor.folded()
    assert "context" not in folded.state_dict()
    torch.testing.assert_close(folded(observation)[0], loc)
    assert torch.equal(folded(observation)[1], scale)
    assert make_actor().folded().context is None
