"""jaxep show RUN [--image N] [--last] [--out FILE.png]

draws what the network of the run in the folder RUN makes of test image N (from 0): the free
equilibrium of each layer, what a nudge by +beta and by -beta moves in it, and the output. Maps of a
convolution are a grid of channels in one colour scale, dense layers a strip. Weights of the epoch
that was best on the test images, or with --last the last ones. The picture is
./show_<run>_<N>.png where --out names no other; nothing is written in RUN.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxep.commands.options import Parser, can_be_file
from jaxep.commands.states_picture import Shown, draw
from jaxep.commands.trained import Trained, load
from jaxep.nets.heads import Targets
from jaxep.run import console
from jaxep.run.errors import SettingsError, reason
from jaxep.training import dynamics, tasks

# Estimators whose states are nudged; the others have an exact gradient of the free phase.
NUDGED = ("ep", "continual")


def show(words: Sequence[str]) -> None:
    """`jaxep show`.

    Args:
        words: after the command's name.

    Raises:
        UserError: there is nothing to show, or it cannot be written.
    """
    parser = Parser("show")
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--image", type=int, default=0, metavar="N")
    parser.add_argument("--last", action="store_true")
    parser.add_argument("--out", metavar="FILE.png")
    options = parser.parse_args(words)
    if options.out:
        can_be_file("--out", options.out)
        if not options.out.endswith(".png"):
            raise SettingsError(f"--out {options.out}: must end in .png")
    trained = load(options.run, options.last)
    count = len(trained.data.test.labels)
    if not 0 <= options.image < count:
        raise SettingsError(f"--image {options.image}: must be in 0..{count - 1}")
    path = options.out or f"show_{trained.name}_{options.image}.png"
    try:
        draw(look(trained, options.image), path)
    except OSError as error:
        raise SettingsError(f"--out {path}: it cannot be written ({reason(error)})") from error
    console.say(path)


def look(trained: Trained, number: int) -> Shown:
    """All that is drawn of test image `number`."""
    run = trained.run
    images, labels = (part[number : number + 1] for part in trained.data.test)
    free = run.states(images)
    outputs = run.model.outputs(run.params, free)[0]
    label, told = int(labels[0]), int(outputs.argmax())
    image = np.asarray(images[0], np.float32)
    low, high = (0, 255) if images.dtype == jnp.uint8 else (image.min(), image.max())
    loss = run.settings.output_loss
    return Shown(
        title=(
            f"{trained.name}, test image {number}: predicted {told}, label {label}"
            f"\n{trained.weights}"
        ),
        image=(image - low) / max(high - low, 1e-12),
        free={name: _plain(free[name]) for name in run.model.network.layer_names},
        moved=_moved(trained, images, labels) if run.settings.estimator in NUDGED else [],
        outputs=np.asarray(outputs, np.float32),
        output_name="logits" if loss == "cross_entropy" else "output neurons",
        label=label,
    )


def _plain(states: jax.Array) -> np.ndarray:
    return np.asarray(states[0], np.float32)


def _moved(
    trained: Trained, images: jax.Array, labels: jax.Array
) -> list[tuple[str, dict[str, np.ndarray]]]:
    """What a phase at +β and one at -β move, whatever stencil the run has.

    The signals of local errors pull with the κ of the update that gave the weights; those of a
    teacher are not there.
    """
    run = trained.run
    settings = dataclasses.replace(run.settings, estimator="ep", ep_variant="centered")
    kappa = tasks.kappa_of_step(settings, trained.updates_per_epoch * settings.epochs)
    strength = kappa(max(run.step - 1, 0)) if kappa else 0.0
    estimator = dynamics.build_estimator(settings)
    estimate = estimator.value_and_grad(run.energy)

    @jax.jit
    def phases(params, x, targets):
        return estimate(params, (x, targets), jax.random.key(run.settings.seed))[2]

    targets = Targets(labels, jnp.asarray(strength, jnp.float32))
    aux = phases(run.params, run.inputs(images), targets)
    signal = {"none": "", "le": f"\nκ = {float(strength):.3g}"}
    found = []
    for place, point in enumerate(estimator.stencil.phases):
        sign = "+" if point > 0 else "−"
        name = f"moved by\nβ = {sign}{settings.beta:.3g}"
        name += signal.get(settings.signal, "\nwithout the\nteacher's signal")
        moved = {
            layer: _plain(aux.nudged.states[layer][place]) - _plain(aux.free.states[layer])
            for layer in run.model.network.layer_names
        }
        found.append((name, moved))
    return found
