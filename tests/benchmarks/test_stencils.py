"""The comparison of stencils: what it computes on a net of seconds, and how it is judged."""

import jax

from benchmarks.paper import stencils
from benchmarks.shared import runs, systems
from jaxep import centered, holomorphic

SMALL = runs.Run(
    "digits_holomorphic",
    {"conv": "2 A", "hidden": (4,), "train_size": 60, "test_size": 30, "t_free": 4, "t_nudge": 2},
)


def test_errors_times_and_phases_of_a_small_net_with_smooth_neurons():
    net = stencils.Net(SMALL, {"centered": centered, "holomorphic, N = 4": holomorphic(4)}, 1.0)
    scale = stencils.Scale({"smooth": net}, 2, (0.1, stencils.BETA, 1.0), 1)
    found = stencils.measure_net(net, scale, {"initial": systems.system(SMALL).initial()})
    assert found["phases"] == {"centered": 2, "holomorphic, N = 4": 3}
    assert min(found["seconds"].values()) > 0
    two, four = found["weights"]["initial"].values()
    assert 2 * four["error"][0] < two["error"][0] < two["error"][1] < 0.5
    assert min(two["cosine"][0], four["cosine"][0]) > 0.99
    assert not jax.config.jax_enable_x64
    result = {"betas": list(scale.betas), "nets": {"smooth": found}}
    assert "| smooth | initial | holomorphic, N = 4 | 4 |" in stencils.table(result)
    assert stencils.draw(result).axes


def test_more_points_are_judged_against_two_at_the_papers_beta():
    own = {"error": [0.1, 0.2], "cosine": [1.0, 0.9]}
    better = {"error": [0.01, 0.5], "cosine": [1.0, 0.5]}
    net = {
        "seconds": {"centered": 0.1, "four points": 0.15},
        "phases": {"centered": 2, "four points": 4},
        "weights": {"initial": {"centered": own, "four points": better}},
    }
    result = {"betas": [stencils.BETA, stencils.PAPER[1]], "nets": {"smooth": net}}
    nearer, cost = stencils.claims(result)
    assert nearer.holds and "error 0.01 against 0.1" in nearer.here
    assert "four points 1.5 times" in cost.here
    better["error"][0] = 0.3
    assert not next(iter(stencils.claims(result))).holds
