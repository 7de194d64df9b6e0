"""Teachers: architecture, block features, batch statistics, and that they learn."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from chex import assert_trees_all_close

from jaxep.nets import teachers
from jaxep.nets.teachers import VGG, init, layers_of_blocks, loss_and_grads, predict
from jaxep.training.settings import load_config_file

BLOCKS = {
    "teacher_vgg19_cifar10": (2, 2, 4, 4, 4),
    "teacher_vgg16_cifar100": (2, 2, 3, 3, 3),
    "teacher_vgg15_cifar100": (2, 2, 2, 3, 3),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_the_papers_teachers_have_their_layers_parameters_and_features(name):
    config = load_config_file(f"configs/{name}.py")
    model = VGG(config.conv, config.hidden, 100)
    params, _ = jax.eval_shape(lambda key: init(model, key, (32, 32, 3)), jax.random.key(0))
    widths = [
        w for w, n in zip((64, 128, 256, 512, 512), BLOCKS[name], strict=True) for _ in range(n)
    ]
    convs = sum(9 * a * b + 2 * b for a, b in zip([3, *widths], widths, strict=False))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == convs + 513 * 512 + 513 * 100
    shapes = jax.eval_shape(
        lambda key: model.init_with_output(key, jnp.zeros((2, 32, 32, 3)), train=False)[0][1],
        jax.random.key(0),
    )
    expected = [(2, 16, 16, 64), (2, 8, 8, 128), (2, 4, 4, 256), (2, 2, 2, 512), (2, 1, 1, 512)]
    assert [feature.shape for feature in shapes] == expected


def test_a_small_teacher_learns_a_batch_and_its_statistics_move_only_in_training():
    model = VGG("8 M 8 M", (16,), 3)
    params, statistics = init(model, jax.random.key(0), (8, 8, 1))
    x = jax.random.normal(jax.random.key(1), (12, 8, 8, 1))
    labels = jnp.arange(12) % 3
    before = predict(model, params, statistics, x)
    assert_trees_all_close(before, predict(model, params, statistics, x))
    optimizer = optax.sgd(0.1, 0.9)
    opt_state, first = optimizer.init(params), None
    step = jax.jit(loss_and_grads, static_argnums=0)
    start = statistics
    for _ in range(60):
        loss, grads, statistics, correct = step(model, params, statistics, x, labels)
        first = loss if first is None else first
        updates, opt_state = optimizer.update(grads, opt_state)
        params = optax.apply_updates(params, updates)
    assert float(loss) < 0.05 < float(first) and int(correct) == 12
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), start, statistics)
    assert min(jax.tree.leaves(moved)) > 0
    logits, _ = predict(model, params, statistics, x)
    np.testing.assert_array_equal(logits.argmax(-1), labels)


def test_its_convolutions_equal_those_of_xla(monkeypatch):
    model = VGG("4v 6 M 8 M", (), 3)  # one without padding
    params, statistics = init(model, jax.random.key(0), (10, 10, 2))
    x, labels = jax.random.normal(jax.random.key(1), (5, 10, 10, 2)), jnp.arange(5) % 3
    ours = loss_and_grads(model, params, statistics, x, labels)
    used = []

    def xlas(*args, **kwargs):
        used.append(args)
        return jax.lax.conv_general_dilated(*args, **kwargs)

    monkeypatch.setattr(teachers, "convolution", xlas)
    assert_trees_all_close(ours, loss_and_grads(model, params, statistics, x, labels), atol=1e-5)
    assert len(used) == 3


def test_features_pass_no_gradient():
    model = VGG("4 M", (), 2)
    params, statistics = init(model, jax.random.key(0), (4, 4, 1))
    slope = jax.grad(lambda x: sum(jnp.sum(f) for f in predict(model, params, statistics, x)[1]))
    assert not np.any(slope(jnp.ones((1, 4, 4, 1))))


def test_student_layers_meet_the_block_that_ends_in_as_many_pools():
    vgg12 = layers_of_blocks("64 64 M 128 128 M 256 256 M 512 512 M 512 512 M")
    assert vgg12 == {"conv2": 0, "conv4": 1, "conv6": 2, "conv8": 3, "conv10": 4}
    vgg7 = layers_of_blocks("64 M 128 M 256 M 512 M 512 M")
    assert [vgg7[layer] for layer in ("conv3", "conv5")] == [2, 4]
