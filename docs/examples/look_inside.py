"""Load a run and draw the states of one image, layer by layer: states.png."""

import sys

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import jaxep
from jaxep.training import Settings

workdir = sys.argv[1] if len(sys.argv) > 1 else "runs/look_inside"  # of any run on digits
if len(sys.argv) == 1:
    net = {"conv": "8 M 16 M", "hidden": (32,), "t_free": 12, "t_nudge": 6, "beta": 1.0}
    settings = Settings(dataset="digits", learning_rates=0.05, batch_size=50, epochs=12, **net)
    jaxep.fit(settings, workdir)

run = jaxep.load_run(workdir)
image = (load_digits().images[:1] * (255 / 16)).astype("uint8")
states = run.states(image)
figure = Figure(figsize=(3 * len(states) + 3, 3), layout="constrained")
first, *others = figure.subplots(1, len(states) + 1)
first.imshow(image[0], cmap="gray")
first.set_title(f"image, told a {run.predict(image)[0]}")
for axis, (name, state) in zip(others, states.items(), strict=True):
    # A map's channels side by side in a row of rows; a dense layer as it is.
    axis.imshow(state[0].reshape(-1, state.shape[-1]).T, aspect="auto", vmin=0, vmax=1)
    axis.set_title(f"{name} {state.shape[1:]}")
    print(f"{name}: mean {state.mean():.3f}, at 0 {(state == 0).mean():.0%}")
FigureCanvasAgg(figure).print_figure("states.png")
print("states.png")
